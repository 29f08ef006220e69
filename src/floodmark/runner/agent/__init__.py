"""The agent: a child process that plays one slice of a scenario's population and hands back what it saw."""
