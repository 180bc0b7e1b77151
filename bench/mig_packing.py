"""Instances of MIG on GPUs that are cut as they are asked for: how many are accepted by the first
place that fits, by the scheduler's own measure for parts of GPUs, and at most by whoever knows all
that will come:
`python -m bench.mig_packing [--gpus N] [--orders N]`.

Sizes and starts are those of A100 and H100 (8 slices of memory: 4g at 0, 3g at 0 and 4, 2g at 0, 2
and 4, 1g at 0 to 6, 7g at 0). Instances come one at a time, nothing leaves, and it ends when more
than 5 % were refused.

The bound is no policy: of the instances that came, as many as may be refused are the largest, and
the others only have to have the slices in all, of memory and of compute, wherever they are.
"""

import argparse
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
}
SHAPES = Shapes(of={n: Shape(SLICES, one.memory, one.starts) for n, one in PROFILES.items()})
PARTS: Mapping[str, tuple[Shape, tuple[int, ...]]] = {n: (s, ()) for n, s in SHAPES.of.items()}
MIXES: Mapping[str, Mapping[str, float]] = {
    "uniform": dict.fromkeys(PROFILES, 1.0),
    "small": {"1g": 5, "2g": 3, "3g": 1.5, "4g": 0.5, "7g": 0.2},
    "large": {"1g": 0.5, "2g": 1, "3g": 3, "4g": 3, "7g": 2.5},
    "bimodal": {"1g": 5, "2g": 0.5, "3g": 0.3, "4g": 0.3, "7g": 4},
}


def coming(mix: Mapping[str, float], seed: int) -> Iterator[str]:
    """Instances without end."""
    chance = random.Random(seed)  # repeated by its seed
    while True:
        yield chance.choices(list(mix), list(mix.values()))[0]


class Gpus:
    """GPUs that are cut; by the gradient, or by the first place."""

    def __init__(self, count: int, mix: Mapping[str, float] | None) -> None:
        self._used = [0] * count
        shares = {name: one / sum(mix.values()) for name, one in mix.items()} if mix else {}
        states = (CutGpu(used, PARTS) for used in range(1 << SLICES))
        self._worth = [unusable(shares, state, SHAPES) for state in states]
        self._first = mix is None

    def take(self, name: str) -> bool:
        """Cut an instance; false if there is no place."""
        places = (
            (self._cost(gpu, used, mask), gpu, mask)
            for gpu, used in enumerate(self._used)
            for mask in PROFILES[name].masks
            if not used & mask
        )
        best = next(places, None) if self._first else min(places, default=None)
        if best is None:
            return False
        self._used[best[1]] |= best[2]
        return True

    def _cost(self, gpu: int, used: int, mask: int) -> tuple[float, int]:
        return round(self._worth[used | mask] - self._worth[used], 3), -used.bit_count()


def accepted(gpus: Gpus, stream: Iterator[str]) -> int:
    """How many, until too many were refused."""
    taken = refused = 0
    for name in stream:
        if gpus.take(name):
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


def rows(gpus: int, orders: Sequence[int]) -> Iterator[str]:
    """A line for each mix, as Markdown."""
    yield "| mix | first place | gradient | at most |"
    yield "|---|---|---|---|"
    for name, mix in MIXES.items():
        first = statistics.fmean(accepted(Gpus(gpus, None), coming(mix, s)) for s in orders)
        ours = statistics.fmean(accepted(Gpus(gpus, mix), coming(mix, s)) for s in orders)
        most = statistics.fmean(bound(gpus, coming(mix, s)) for s in orders)
        yield (
            f"| {name} | {first:.1f} | {ours:.1f} ({100 * (ours / first - 1):+.1f} %)"
            f" | {most:.1f} ({100 * (most / first - 1):+.1f} %) |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=100)
    parser.add_argument("--orders", type=int, default=30)
    given = parser.parse_args()
    print(*rows(given.gpus, range(given.orders)), sep="\n")


if __name__ == "__main__":
    main()
