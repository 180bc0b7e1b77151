"""The cluster's scheduler: packing, state, and the extender."""
