"""Quantities as Kubernetes writes them; pure."""

import re
from decimal import Decimal

_SUFFIXES = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}
_QUANTITY = re.compile(
    r"([0-9]{0,20}(?:\.[0-9]{0,20})?)(?:([eE][+-]?[0-9]{1,2})|([KMGTPE]i|[numkMGTPE]?))"
)


def parse_quantity(text: str | float) -> Decimal:
    """Kubernetes' quantity, such as `4`, `500m` or `16Gi`; raises ValueError."""
    if isinstance(text, int | float):
        if text < 0:
            raise ValueError(f"not a quantity: {text}")
        return Decimal(str(text))
    found = _QUANTITY.fullmatch(text.strip().removeprefix("+"))
    if found is None or not any(c.isdecimal() for c in found[1]):
        raise ValueError(f"not a quantity: {text[:40]!r}")
    number, exponent, suffix = Decimal(found[1]), found[2], found[3] or ""
    if exponent:
        return number.scaleb(int(exponent[1:]))
    if suffix in _BINARY:
        return number * _BINARY[suffix]
    return number.scaleb(_SUFFIXES[suffix])


def amount(text: str | float) -> int:
    """A quantity in units of one; 0 for what is none."""
    try:
        return int(parse_quantity(text))
    except ValueError:
        return 0
