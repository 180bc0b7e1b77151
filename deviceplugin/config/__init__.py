"""The configuration: its files, sections, errors, and reloads."""
