"""The node as a page for people and as JSON for programs; made only when somebody asks for it."""
