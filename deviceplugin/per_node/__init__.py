"""One configuration for a fleet, with named parts that only some nodes have."""
