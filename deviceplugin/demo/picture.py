"""The node in a picture of text: a line for each GPU, its partitions side by side."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

WIDTH = 48
NAMES = 26
Shown = Mapping[str, Any]


def picture(status: Shown) -> str:
    """The devices of a status document, each line at most 79 columns wide."""
    lines = []
    for vendor, devices in groupby(status["devices"], key=lambda one: one["vendor"]):
        lines += [vendor, *map(_line, devices)]
    return "\n".join(lines)


def _line(device: Shown) -> str:
    name = str(device["product"] or "GPU").partition(" (")[0]
    return f"  {name[:NAMES]:{NAMES}} [{_inside(device['partitions'])}]"


def _inside(partitions: Sequence[Shown]) -> str:
    """What fills the box: the parts as wide as their memory, or the GPU whole."""
    if not partitions:
        return f"{'whole':^{WIDTH}}"
    names = [one["profile"] or "" for one in partitions]
    if len(" ".join(names)) > WIDTH:
        kind = names[0] if len(set(names)) == 1 else "partitions"
        return f"{f'{len(partitions)} x {kind}':^{WIDTH}.{WIDTH}}"
    total = sum(one["memory_bytes"] or 1 for one in partitions)
    room = WIDTH - (len(partitions) - 1)
    widths = list(_widths([(one["memory_bytes"] or 1) / total for one in partitions], room))
    return "|".join(f"{name[:width]:^{width}}" for name, width in zip(names, widths, strict=True))


def _widths(shares: Sequence[float], room: int) -> Iterator[int]:
    """Whole columns that are `room` together, and at least one each."""
    spare, done, sum_of_shares = room - len(shares), 0, 0.0
    for share in shares:
        sum_of_shares += share
        end = round(spare * sum_of_shares)
        yield 1 + end - done
        done = end
