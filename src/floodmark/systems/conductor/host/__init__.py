"""Runs a conductor for each surface that connects, in a process of its own: see `wire` for the frames, `vocabulary` for the events.

So its memory can be seen from outside, and whoever sits at the other end counts for himself what was shown.
"""
