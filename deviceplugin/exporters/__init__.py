"""Health that the vendors' own agents tell on node-local sockets: optional, never trusted alone."""
