"""What GPUs do, which pods make them do it, as metrics and as history; nothing of it by default."""
