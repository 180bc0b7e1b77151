"""Instances of MIG on GPUs that are cut as they are asked for: how many are accepted by the first
place that fits, by the scheduler's own measure for parts of GPUs, by two others, and at most by
whoever knows all that will come:
`python -m bench.mig_packing [--gpus N] [--orders N] [--load PERCENT]`.

Sizes and starts are those of A100 and H100 (8 slices of memory: 4g at 0, 3g at 0 and 4, 2g at 0, 2
and 4, 1g at 0 to 6, 7g at 0). Instances come one at a time, nothing leaves, and it ends when more
than 5 % were refused.

The bound is no policy: of the instances that came, as many as may be refused are the largest, and
the others only have to have the slices in all, of memory and of compute, wherever they are.

With --load instances leave, too: they stay for exponential times, and come so fast that so many
percent of the slices of memory are asked for at a time. Counted are those that came after the first
third. The profiles are then six, with 1g that has two slices of memory.
"""

import argparse
import heapq
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from deviceplugin.scheduler.partitions import CutGpu, Shape, Shapes, unusable

REFUSED, FEW = 0.05, 20
SLICES, COMPUTE = 8, 7


class Profile(Struct, frozen=True):
    """An instance: slices of memory and compute, and where it may start."""

    memory: int
    compute: int
    starts: tuple[int, ...]

    @property
    def masks(self) -> tuple[int, ...]:
        """The slices that it takes, for each start."""
        return tuple(((1 << self.memory) - 1) << start for start in self.starts)


PROFILES: Mapping[str, Profile] = {
    "1g": Profile(1, 1, tuple(range(7))),
    "2g": Profile(2, 2, (0, 2, 4)),
    "3g": Profile(4, 3, (0, 4)),
    "4g": Profile(4, 4, (0,)),
    "7g": Profile(8, 7, (0,)),
    "1g, two of memory": Profile(2, 1, (0, 2, 4, 6)),
}
SHAPES = Shapes(of={n: Shape(SLICES, one.memory, one.starts) for n, one in PROFILES.items()})
PARTS: Mapping[str, tuple[Shape, tuple[int, ...]]] = {n: (s, ()) for n, s in SHAPES.of.items()}
MIXES: Mapping[str, Mapping[str, float]] = {
    "uniform": dict.fromkeys(("1g", "2g", "3g", "4g", "7g"), 1.0),
    "small": {"1g": 5, "2g": 3, "3g": 1.5, "4g": 0.5, "7g": 0.2},
    "large": {"1g": 0.5, "2g": 1, "3g": 3, "4g": 3, "7g": 2.5},
    "bimodal": {"1g": 5, "2g": 0.5, "3g": 0.3, "4g": 0.3, "7g": 4},
}

_SIX = ("7g", "4g", "3g", "2g", "1g, two of memory", "1g")
LEAVING: Mapping[str, Mapping[str, float]] = {
    "uniform": dict.fromkeys(_SIX, 1.0),
    "small": dict(zip(_SIX, (5, 10, 10, 20, 25, 30), strict=True)),
    "large": dict(zip(_SIX, (30, 25, 20, 10, 10, 5), strict=True)),
    "bimodal": dict(zip(_SIX, (30, 15, 5, 5, 15, 30), strict=True)),
}
FIRST = "first place"
POLICIES = (FIRST, "gradient", "by turns", "emptiest GPU")
CAME = 6000


def coming(mix: Mapping[str, float], seed: int) -> Iterator[str]:
    """Instances without end."""
    chance = random.Random(seed)  # repeated by its seed
    while True:
        yield chance.choices(list(mix), list(mix.values()))[0]


class Gpus:
    """GPUs that are cut by one of POLICIES."""

    def __init__(self, count: int, policy: str, mix: Mapping[str, float]) -> None:
        self._used, self._policy, self._last = [0] * count, policy, -1
        shares = {name: one / sum(mix.values()) for name, one in mix.items()}
        states = (CutGpu(used, PARTS) for used in range(1 << SLICES))
        self._worth = [unusable(shares, state, SHAPES) for state in states]

    def take(self, name: str) -> tuple[int, int] | None:
        """Cut an instance: of which GPU, and which slices; None if there is no place."""
        places = (
            (self._order(gpu, used, mask), gpu, mask)
            for gpu, used in enumerate(self._used)
            for mask in PROFILES[name].masks
            if not used & mask
        )
        best = next(places, None) if self._policy == FIRST else min(places, default=None)
        if best is None:
            return None
        _, gpu, mask = best
        self._used[gpu] |= mask
        self._last = gpu
        return gpu, mask

    def give_back(self, gpu: int, mask: int) -> None:
        """The instance is no more."""
        self._used[gpu] &= ~mask

    def _order(self, gpu: int, used: int, mask: int) -> tuple[float, int]:
        if self._policy == "gradient":
            return round(self._worth[used | mask] - self._worth[used], 3), -used.bit_count()
        if self._policy == "by turns":
            return (gpu - self._last - 1) % len(self._used), 0
        return (used.bit_count() if self._policy == "emptiest GPU" else 0), 0


def accepted(gpus: Gpus, stream: Iterator[str]) -> int:
    """How many, until too many were refused."""
    taken = refused = 0
    for name in stream:
        if gpus.take(name) is not None:
            taken += 1
        else:
            refused += 1
        if taken + refused > FEW and refused > REFUSED * (taken + refused):
            break
    return taken


def bound(count: int, stream: Iterator[str]) -> int:
    """More than this cannot be accepted of the stream, whoever places it."""
    came: list[str] = []
    best = 0
    for name in stream:
        came.append(name)
        kept = len(came) - int(REFUSED * len(came))
        memory = sorted(PROFILES[one].memory for one in came)[:kept]
        compute = sorted(PROFILES[one].compute for one in came)[:kept]
        if sum(memory) > SLICES * count or sum(compute) > COMPUTE * count:
            break
        best = kept
    return best


def steady(gpus: Gpus, asked_slices: float, mix: Mapping[str, float], seed: int) -> float:
    """How many percent of those that come are accepted, where instances leave."""
    chance = random.Random(seed)  # repeated by its seed
    mean = sum(PROFILES[n].memory * share for n, share in mix.items()) / sum(mix.values())
    leaving, at, taken = list[tuple[float, int, int]](), 0.0, 0
    for number, name in zip(range(CAME), coming(mix, seed), strict=False):
        at += chance.expovariate(asked_slices / mean)
        end = at + chance.expovariate(1.0)
        while leaving and leaving[0][0] <= at:
            gpus.give_back(*heapq.heappop(leaving)[1:])
        if (place := gpus.take(name)) is not None:
            heapq.heappush(leaving, (end, *place))
            taken += number >= CAME // 3
    return 100 * taken / (CAME - CAME // 3)


def rows(gpus: int, orders: Sequence[int]) -> Iterator[str]:
    """A line for each mix where nothing leaves, as Markdown: instances accepted."""
    yield f"| mix | {' | '.join(POLICIES)} | at most |"
    yield "|---" * (len(POLICIES) + 2) + "|"
    for name, mix in MIXES.items():
        found = [
            statistics.fmean(accepted(Gpus(gpus, policy, mix), coming(mix, s)) for s in orders)
            for policy in POLICIES
        ]
        found.append(statistics.fmean(bound(gpus, coming(mix, s)) for s in orders))
        yield f"| {name} | {' | '.join(_beside(found, ''))} |"


def rows_of(load: float, gpus: int, orders: Sequence[int]) -> Iterator[str]:
    """A line for each mix where instances leave: percent accepted."""
    yield f"| mix at {load:g} % | {' | '.join(POLICIES)} |"
    yield "|---" * (len(POLICIES) + 1) + "|"
    for name, mix in LEAVING.items():
        found = [
            statistics.fmean(
                steady(Gpus(gpus, policy, mix), load / 100 * SLICES * gpus, mix, s) for s in orders
            )
            for policy in POLICIES
        ]
        yield f"| {name} | {' | '.join(_beside(found, ' %'))} |"


def _beside(found: Sequence[float], unit: str) -> Iterator[str]:
    """The first, and the others with what they are over it."""
    yield f"{found[0]:.1f}{unit}"
    for one in found[1:]:
        yield f"{one:.1f}{unit} ({100 * (one / found[0] - 1):+.1f} %)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=100)
    parser.add_argument("--orders", type=int, default=30)
    parser.add_argument("--load", type=float, help="instances leave")
    given = parser.parse_args()
    orders = range(given.orders)
    found = rows_of(given.load, given.gpus, orders) if given.load else rows(given.gpus, orders)
    for row in found:
        print(row, flush=True)
    print(f"gradient over {FIRST}: meant at least +12 %")


if __name__ == "__main__":
    main()
