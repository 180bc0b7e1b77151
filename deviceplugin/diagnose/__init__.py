"""What is wrong with this node: passive checks over one snapshot, and the archive for support."""
