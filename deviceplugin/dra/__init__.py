"""Dynamic resource allocation: GPUs that pods claim by ResourceClaims; off by default."""
