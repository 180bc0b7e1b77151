"""What the metrics of all nodes tell: read from a store of metrics, on any machine."""
