"""What GPUs cost, and who had what of it."""
