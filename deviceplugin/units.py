"""Quantities of memory as people write them."""

import re
from decimal import Decimal

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_UNITS |= {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_QUANTITY = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(|[KMGT]i?)B?\s*")
_MAX_BYTES = 1 << 60  # more than any node has, and a number that every counter holds


def parse_bytes(text: str) -> int:
    """Bytes of a quantity such as `5GiB`, `5Gi`, `512MiB` or `4GB` (decimal).

    Raises ValueError for anything else, for a quantity of zero and for one above an EiB.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a memory size such as 5GiB")
    size = round(Decimal(match[1]) * _UNITS[match[2]])  # exact, which float is not from 8 PiB on
    if size == 0:
        raise ValueError(f"{text!r} is a memory size of zero")
    if size > _MAX_BYTES:
        raise ValueError(f"{text!r} is a memory size above 1024 PiB")
    return size
