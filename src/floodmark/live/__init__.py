"""A run while it goes on, and afterwards, on a terminal.

From the folder to the screen: `tail` reads the lines that a running run writes, `recorded` makes the same lines of a finished one, `story`
turns lines into the words of a conductor, `feed` hands them to it; `board` is fed by the conductor's events, `trace` keeps a curve, `plot`
and `paint` turn them into lines of text, `terminal` is the screen. `command` is `floodmark watch`, `view` what `floodmark run` starts
beside itself. The path to the verdict does not pass through here: a run draws nothing, and ends no differently without anybody watching.
"""
