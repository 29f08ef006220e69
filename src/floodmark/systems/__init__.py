"""The four reference systems. Each imports `floodmark.core` and nothing else of ours."""
