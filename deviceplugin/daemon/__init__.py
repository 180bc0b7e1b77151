"""The wiring: which parts the daemon has, and in what order they start and end."""
