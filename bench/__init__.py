"""Measurements of the daemon that anyone can repeat: `make bench`. Figures, not limits."""
