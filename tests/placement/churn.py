"""Random arrivals and departures on a node, and the ways of choosing that ours is compared with."""

import random
from collections.abc import Callable
from functools import cache
from itertools import combinations

from msgspec import Struct

from deviceplugin.model import LinkKind
from tests.placement.boxes import Box

Choose = Callable[[tuple[str, ...], int], tuple[str, ...]]
Pairs = frozenset[frozenset[str]]


class Outcome(Struct, frozen=True, kw_only=True):
    """Over the steps: the bridged pairs that were free as pairs, of those that could have been,
    and the requests of two or more that got GPUs joined by bridges as far as their size allows."""

    pairs_whole: float
    pairs_possible: float
    joined: int
    asked: int


def churn(ids: tuple[str, ...], pairs: Pairs, choose: Choose, sizes: list[int]) -> Outcome:
    """1,000 arrivals and departures from a fixed seed; an arrival that does not fit is dropped."""
    dice = random.Random(20)  # a simulation
    running: list[tuple[str, ...]] = []
    whole = possible = joined = asked = 0
    for _ in range(1000):
        taken = {gpu for held in running for gpu in held}
        free = tuple(gpu for gpu in ids if gpu not in taken)
        arrives, size, leaver = dice.random() < 0.55, dice.choice(sizes), dice.random()
        if arrives and size <= len(free):
            answer = choose(free, size)
            running.append(answer)
            if size > 1:
                asked += 1
                joined += len([p for p in pairs if p <= set(answer)]) == size // 2
        elif not arrives and running:
            running.pop(int(leaver * len(running)))
        left = set(ids) - {gpu for held in running for gpu in held}
        whole += sum(pair <= left for pair in pairs)
        possible += len(left) // 2
    return Outcome(
        pairs_whole=whole / 1000, pairs_possible=possible / 1000, joined=joined, asked=asked
    )


def pairs_of(box: Box) -> Pairs:
    """The pairs of GPUs that a bridge joins."""
    return frozenset(
        frozenset({device.id, link.peer})
        for device in box.inventory.devices.values()
        for link in device.links
        if link.kind is LinkKind.NVLINK
    )


def ours(box: Box) -> Choose:
    """The policy `aligned`."""
    return lambda free, size: box.ask(size, free, policy="aligned")


def first_fit(free: tuple[str, ...], size: int) -> tuple[str, ...]:
    """The first free GPUs."""
    return free[:size]


def pair_score(box: Box) -> Choose:
    """All divisions of the free GPUs into sets of the asked size: the division with the largest
    total score, and of it the best set. A bridge's link scores 100, the PCIe level 10 to 60."""
    scores: dict[frozenset[str], int] = {}
    for device in box.inventory.devices.values():
        for link in device.links:
            key = frozenset({device.id, link.peer})
            points = 100 * link.width if link.weight is None else 60 - link.weight
            scores[key] = scores.get(key, 0) + points
    scores = {key: value // 2 for key, value in scores.items()}  # told from both ends

    def score(ids: tuple[str, ...]) -> int:
        return sum(scores.get(frozenset(pair), 0) for pair in combinations(ids, 2))

    @cache
    def divide(free: tuple[str, ...], size: int) -> tuple[int, tuple[tuple[str, ...], ...]]:
        if len(free) < size:
            return 0, ()
        options = []
        if len(free) % size:
            options.append(divide(free[1:], size))
        for others in combinations(free[1:], size - 1):
            rest = tuple(gpu for gpu in free[1:] if gpu not in others)
            total, sets = divide(rest, size)
            options.append((total + score((free[0], *others)), ((free[0], *others), *sets)))
        return max(options, key=lambda option: option[0])

    def choose(free: tuple[str, ...], size: int) -> tuple[str, ...]:
        if size == 1:
            return free[:1]
        return max(divide(free, size)[1], key=score)

    return choose
