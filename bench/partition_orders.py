"""In which order the places of MIG instances should be published:
`python -m bench.partition_orders [--seeds N]`.

A scheduler takes the first device that is free, GPU after GPU. 100 claims for profiles of an H100
come and go as in bench.partitions, for four mixes of demand and two lengths of stay. Counted are
claims served, slices of memory that they have, and claims that were refused although they would
have fitted if the instances that were there had been placed otherwise. On values: it follows the
order of devices in our slices, nothing else of them.
"""

import argparse
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from deviceplugin.dra.partitions import placements
from deviceplugin.model import Device, DeviceID
from tests.provision.products import product

PRODUCT, GPUS, CLAIMS, FIRST = "H100-80GB", 8, 100, 20_000
SIZES = {"1g.10gb": 1, "1g.20gb": 2, "2g.20gb": 2, "3g.40gb": 4, "4g.40gb": 4, "7g.80gb": 8}
# In the order of SIZES, with the mean stay under which some are refused.
MIXES: Mapping[str, tuple[Sequence[float], float]] = {
    "as in bench.partitions": ((8, 2, 4, 3, 1, 1), 40),
    "uniform": ((1, 1, 1, 1, 1, 1), 28),
    "mostly small": ((10, 4, 4, 1, 0.5, 0.2), 60),
    "mostly large": ((1, 0.5, 2, 4, 3, 2), 22),
}
Claim = tuple[str, float, float]  # a profile, and from when to when
Order = Mapping[str, Sequence[int]]  # the starts of each profile, first ones first
Counts = tuple[int, int, int]


def claims(mix: str, stay: float, seed: int) -> list[Claim]:
    """100 of them within 100 minutes."""
    weights, mean = MIXES[mix]
    rng = random.Random(seed)  # repeated by its seed
    names = rng.choices(list(SIZES), weights, k=CLAIMS)
    begins = sorted(rng.uniform(0, 100) for _ in names)
    ends = (begin + rng.expovariate(1 / (mean * stay)) for begin in begins)
    return list(zip(names, begins, ends, strict=True))


def published() -> Order:
    """The order of our slices."""
    found: dict[str, list[int]] = {name: [] for name in SIZES}
    gpu = product(PRODUCT)
    whole = Device(id=DeviceID(gpu.id), vendor="nvidia", product=gpu.product, memory_bytes=80 << 30)
    for place in placements({"gpu-0": whole}, {whole.id: gpu}).values():
        if place.profile in found and place.start is not None:
            found[place.profile].append(place.start)
    return found


def served(wanted: Sequence[Claim], order: Order) -> Counts:
    """Claims, their slices, and those that only the places of others kept away."""
    used, there = [0] * GPUS, list[tuple[float, str, int, int]]()
    count = slices = kept = 0
    for name, begin, end in wanted:
        for one in [one for one in there if one[0] <= begin]:
            used[one[2]] &= ~one[3]
            there.remove(one)
        place = next(_free(name, used, order), None)
        if place is None:
            kept += fits([*(one[1] for one in there), name])
            continue
        used[place[0]] |= place[1]
        there.append((end, name, *place))
        count, slices = count + 1, slices + SIZES[name]
    return count, slices, kept


def _free(name: str, used: Sequence[int], order: Order) -> Iterator[tuple[int, int]]:
    for gpu in range(GPUS):
        for start in order[name]:
            mask = ((1 << SIZES[name]) - 1) << start
            if not used[gpu] & mask:
                yield gpu, mask


def fits(names: Sequence[str]) -> bool:
    """Whether these can be placed at all: halves of GPUs for large ones, upper halves first; then
    pairs of slices, of which the last of a GPU is none for 2g and one slice for 1g."""
    n = Counter(names)
    gpus = GPUS - n["7g.80gb"]
    lower, upper = gpus - n["4g.40gb"], gpus
    above = min(n["3g.40gb"], upper)
    lower, upper = lower - (n["3g.40gb"] - above), upper - above
    if lower < 0:
        return False
    last = min(n["1g.20gb"], upper)
    pairs = 2 * lower + upper - n["2g.20gb"] - (n["1g.20gb"] - last)
    return pairs >= 0 and n["1g.10gb"] <= 2 * pairs + upper - last


def moved(wanted: Sequence[Claim]) -> Counts:
    """What would be served if instances could be moved at any time."""
    there: list[Claim] = []
    count = slices = 0
    for claim in wanted:
        there = [one for one in there if one[2] > claim[1]]
        if fits([*(one[0] for one in there), claim[0]]):
            there.append(claim)
            count, slices = count + 1, slices + SIZES[claim[0]]
    return count, slices, 0


def rows(seeds: int) -> Iterator[str]:
    """A line for each mix, stay and way, as Markdown; differences are by pairs."""
    ours = published()
    last_first = {name: sorted(starts, reverse=True) for name, starts in ours.items()}
    ways: Mapping[str, Callable[[Sequence[Claim]], Counts]] = {
        "later places first": lambda wanted: served(wanted, last_first),
        "as published": lambda wanted: served(wanted, ours),
        "instances could move": moved,
    }
    yield "| Demand | Stay | Order | Claims | more | Slices | refused by places |"
    yield "|---|---|---|---|---|---|---|"
    for mix in MIXES:
        for stay in (1.0, 0.6):
            orders = [claims(mix, stay, seed) for seed in range(FIRST, FIRST + seeds)]
            found = {name: [way(one) for one in orders] for name, way in ways.items()}
            first = found["later places first"]
            for name, counts in found.items():
                more = [a[0] - b[0] for a, b in zip(counts, first, strict=True)]
                error = statistics.stdev(more) / math.sqrt(seeds)
                means = [statistics.fmean(column) for column in zip(*counts, strict=True)]
                yield (
                    f"| {mix} | {stay} | {name} | {means[0]:.1f} | {statistics.fmean(more):+.2f} ±"
                    f" {error:.2f} | {means[1]:.1f} | {means[2]:.1f} |"
                )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    print(*rows(parser.parse_args().seeds), sep="\n")


if __name__ == "__main__":
    main()
