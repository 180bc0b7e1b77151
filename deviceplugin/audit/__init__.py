"""The audit log: what was done with the node's devices, in a chain that shows edits and cuts."""
