"""Partitions made on request: layouts, plans and the transaction that makes them."""
