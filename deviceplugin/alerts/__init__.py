"""Alerts of the section `monitoring`: judged on the node, and written as rules for Prometheus."""
