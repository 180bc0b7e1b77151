"""What containers did with GPUs on this node, for whoever learns from it; off by default."""
