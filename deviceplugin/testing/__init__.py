"""What tests and the demo need of a node without having one; shipped, and always simulation."""
