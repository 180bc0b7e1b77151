"""What GPUs did, from the counters that telemetry reads: as files, and by pod; off by default."""
