"""Replays of traces through the code that decides on a cluster."""
