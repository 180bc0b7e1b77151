"""How long pods will run and what they will use, learned from those that were."""
