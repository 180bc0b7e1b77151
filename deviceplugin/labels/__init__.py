"""Node labels that describe the devices of a node."""
