"""CDI files: how devices are described to container runtimes."""
