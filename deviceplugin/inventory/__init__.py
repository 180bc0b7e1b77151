"""What is known of the node's devices and their faults, and what changes in it."""
