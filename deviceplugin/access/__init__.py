"""Manifests that hold who may ask for GPUs; printed by a command, never a part of the daemon."""
