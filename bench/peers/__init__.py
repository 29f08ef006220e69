"""One file per contender: each runs as a process of its own, told by arguments, and reports once when its account is complete."""
