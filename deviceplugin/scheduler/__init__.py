"""Which node a pod goes to: a scheduler extender for the whole cluster, and its packing."""
