"""Tests of runs of containers."""
