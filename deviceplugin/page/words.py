"""Values as people read them, for the page and the terminal; pure."""

from collections.abc import Sequence

ABSENT = "–"
_STEPS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size(value: int | None) -> str:
    """Bytes, with one digit after the point where it says something."""
    if value is None:
        return ABSENT
    for unit, name in _STEPS:
        if value >= unit:
            return f"{value / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{value} B"


def percent(ratio: float | None) -> str:
    """A part of one as a percentage."""
    return ABSENT if ratio is None else f"{100 * ratio:.0f} %"


def celsius(value: float | None) -> str:
    """A temperature."""
    return ABSENT if value is None else f"{value:.0f} °C"


def watts(value: float | None, limit: float | None = None) -> str:
    """Power, and what it is held to."""
    if value is None:
        return ABSENT
    return f"{value:.0f} W" if limit is None else f"{value:.0f} of {limit:.0f} W"


def count(number: int, one: str, many: str = "") -> str:
    """`1 GPU`, `3 GPUs`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def ago(seconds: float) -> str:
    """How long ago, in one unit."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def short(identity: str, length: int = 12) -> str:
    """The beginning of an identity, enough to tell two apart on one node."""
    return identity if len(identity) <= length + 1 else f"{identity[:length]}…"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names with commas; of many the first ones and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
