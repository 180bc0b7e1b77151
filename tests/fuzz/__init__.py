"""Any bytes on every surface: a value or an error of ours, never anything else."""
