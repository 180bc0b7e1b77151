"""Inputs of the field, each with its right answer."""
