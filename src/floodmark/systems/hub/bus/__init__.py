"""Where events come from and go to: the process's own memory, or NATS JetStream."""
