"""Active tests of GPUs."""
