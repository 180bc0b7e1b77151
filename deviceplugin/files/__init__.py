"""How files are opened: never waiting, never more than asked for, never outside a root."""
