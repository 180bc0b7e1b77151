"""Finds pods that use GPUs which they were not given; off by default."""
