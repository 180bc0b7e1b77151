"""NVML in a child process: a library that crashes or hangs costs answers, not the daemon."""
