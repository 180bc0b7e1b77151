"""Numbers as the kernel writes them, and nothing that Python would also call a number.

`isdigit()` takes `²`, of which int() knows nothing; int() takes `1_0` and any size in hexadecimal.
"""

import re

_DECIMAL = re.compile(r"[0-9]{1,20}")
_HEXADECIMAL = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,16})")
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})")


def parse_decimal(text: str) -> int | None:
    """The number in decimal digits, None for any other text."""
    return int(text) if _DECIMAL.fullmatch(text) else None


def parse_hexadecimal(text: str) -> int | None:
    """The number of up to 64 bits in hexadecimal digits, with or without 0x; None for another."""
    match = _HEXADECIMAL.fullmatch(text)
    return int(match[1], 16) if match else None


def parse_integer(text: str) -> int | None:
    """The number in decimal digits, or in hexadecimal ones after 0x; None for another text."""
    if not _INTEGER.fullmatch(text):
        return None
    return int(text, 16 if "x" in text.lower() else 10)


def numbered(names: tuple[str, ...], prefix: str) -> tuple[tuple[int, str], ...]:
    """The names `<prefix><number>` with their numbers, by number."""
    found = ((parse_decimal(n[len(prefix) :]), n) for n in names if n.startswith(prefix))
    return tuple(sorted((number, name) for number, name in found if number is not None))
