"""What users' documents say of GPUs beyond the daemon's own settings: kept, told and held."""
