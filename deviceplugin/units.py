"""Quantities of memory as people write them."""

import re

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_UNITS |= {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(|[KMGT]i?)B?\s*")


def parse_bytes(text: str) -> int:
    """Bytes of a quantity such as `5GiB`, `5Gi`, `512MiB` or `4GB` (decimal).

    Raises ValueError for anything else, and for a quantity of zero.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a memory size such as 5GiB")
    size = round(float(match[1]) * _UNITS[match[2]])
    if size == 0:
        raise ValueError(f"{text!r} is a memory size of zero")
    return size
