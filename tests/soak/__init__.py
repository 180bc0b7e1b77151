"""Everything at once, at random, for as long as one likes: `make soak`."""
