"""Runs the pipeline, which is a library, as a process of its own that is fed and drained over a socket: see `wire` for what is spoken.

So its memory can be seen from outside, and whoever feeds and drains it counts for himself what went in and what came out.
"""
