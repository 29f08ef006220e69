"""Agents on other machines: what runner and agents say to each other over NATS, and how their clocks are laid side by side."""
