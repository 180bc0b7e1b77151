"""What may fail: certain findings, rates of failure, and how good such predictions were."""
