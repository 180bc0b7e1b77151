"""Tests that use a GPU: only one that nobody holds, and one at a time."""
