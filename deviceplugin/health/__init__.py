"""Faults: how they are judged, remembered, reported, and what operators say of devices."""
