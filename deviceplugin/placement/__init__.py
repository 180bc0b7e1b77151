"""Preferred allocation: which of the free ids a container should get."""
