"""What is put on the target: when each message is meant to leave (`arrivals/`, `pacing.py`) and how the receivers read (`consumers/`)."""
