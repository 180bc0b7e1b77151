"""Holds containers to the memory of their slices, where the kernel can; off by default."""
