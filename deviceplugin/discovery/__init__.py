"""Vendors at work: which are installed, their discoveries, probes and health watches."""
