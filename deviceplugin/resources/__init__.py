"""Extended resources: rules, shares, forms, who holds what, and what an Allocate answers."""
