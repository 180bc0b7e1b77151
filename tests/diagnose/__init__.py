"""Checks of a node, and the archive for support."""
