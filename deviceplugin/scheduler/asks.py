"""What a ResourceClaim asks for, as values that are packed; pure."""

from msgspec import Struct

Counters = tuple[tuple[str, int], ...]  # names and amounts
ALL = 0  # of a count: every device that the selectors take


class Ask(Struct, frozen=True):
    """So many devices that all selectors take, and of a device that several claims can have how
    much."""

    count: int = 1
    selectors: tuple[str, ...] = ()
    capacity: Counters = ()


class ClaimAsk(Struct, frozen=True):
    """What a claim asks for: for each request the first of its alternatives that can be had, and
    attributes that the devices of those requests must share.

    `gpus` and `milli` are the size that it has as a rule: so many, and so many thousandths of each.
    """

    requests: tuple[tuple[Ask, ...], ...] = ()
    match: tuple[tuple[str, tuple[int, ...]], ...] = ()
    gpus: int = 0
    milli: int = 0
