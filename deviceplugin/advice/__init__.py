"""What could be had for less, each saving computed on the user's own history."""
