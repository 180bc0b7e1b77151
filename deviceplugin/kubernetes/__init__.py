"""Shows in Kubernetes what is wrong with devices: Events, a node condition, a taint; all off by
default."""
