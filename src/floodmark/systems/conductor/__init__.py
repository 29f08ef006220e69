"""A conductor stands between token streams and the surface that shows them: it never blocks, loses no token and quits at once."""
