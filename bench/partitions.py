"""How many claims for MIG profiles eight GPUs can serve: `python -m bench.partitions`.

100 claims come in a random order and go again after a random while. Instances are made when a claim
asks: by DRA, from slices through Prepare to the privileged process's journal, with a scheduler that
takes the first device that is free; by the placement code of layouts; and at the first place that
is free. Beside them stand layouts: NVIDIA's `all-balanced`; that of all which such GPUs can have
which serves the most of 1,000 other orders of the same demand, as an administrator could know it;
and that which serves the most of just these claims, which nobody knows. All layouts are tried: a
claim takes an instance of its own profile, so what counts is how many there are of each. Nothing is
measured on hardware; it counts claims.
"""

import asyncio
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.dra.publisher import Publisher
from deviceplugin.provision.places import places_for, span
from deviceplugin.provision.section import Layout
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.drascheduler import UnschedulableError
from deviceplugin.vendor.partitions import Profile
from tests.dra.simulated import DRIVER
from tests.provision.claiming import Cards, Life
from tests.provision.products import layouts as published
from tests.provision.products import product

GPUS, CLAIMS, SEEDS = 8, 100, 40
LEARNED, LEARN = 10_000, 1_000  # seeds that the standing layout is chosen by, none of the above
PRODUCT = "H100-80GB"
# Small ones are asked for more often; the media instance is no size of its own.
WEIGHTS = {"1g.10gb": 8, "1g.20gb": 2, "2g.20gb": 4, "3g.40gb": 3, "4g.40gb": 1, "7g.80gb": 1}
Place = tuple[Profile, int]


class Claim(Struct, frozen=True):
    """It wants a profile from one moment to another."""

    profile: str
    begin: float
    end: float


def profiles() -> Mapping[str, Profile]:
    """Those of the product that are asked for."""
    mig = product(PRODUCT).mig
    assert mig is not None
    return {one.name: one for one in mig.profiles if one.name in WEIGHTS}


def claims(seed: int) -> list[Claim]:
    """100 of them, more than fit at once."""
    rng = random.Random(seed)
    names = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=CLAIMS)
    begins = sorted(rng.uniform(0, 100) for _ in names)
    return [Claim(n, b, b + rng.expovariate(1 / 40)) for n, b in zip(names, begins, strict=True)]


Choose = Callable[[Profile, Sequence[Sequence[Place]]], tuple[int, int] | None]


def served(wanted: Sequence[Claim], choose: Choose) -> int:
    """How many get an instance at once; one that does not goes away."""
    known, count = profiles(), 0
    gpus: list[list[tuple[Place, float]]] = [[] for _ in range(GPUS)]
    for claim in wanted:
        gpus = [[one for one in gpu if one[1] > claim.begin] for gpu in gpus]
        found = choose(known[claim.profile], [[place for place, _ in gpu] for gpu in gpus])
        if found is not None:
            gpu, start = found
            gpus[gpu].append(((known[claim.profile], start), claim.end))
            count += 1
    return count


def ours(profile: Profile, gpus: Sequence[Sequence[Place]]) -> tuple[int, int] | None:
    """The fullest GPU that has room, and there the place that leaves the most."""
    every = tuple(profiles().values())
    for number in sorted(range(GPUS), key=lambda n: (-len(taken(gpus[n])), n)):
        used = [one.name for one, _ in gpus[number]]
        places = places_for([profile], taken(gpus[number]), every, used)
        if places is not None:
            return number, places[0][1]
    return None


def first_fit(profile: Profile, gpus: Sequence[Sequence[Place]]) -> tuple[int, int] | None:
    """The first GPU and the first place."""
    for number, gpu in enumerate(gpus):
        if sum(one.name == profile.name for one, _ in gpu) >= profile.instances:
            continue
        for start in sorted(profile.starts):
            if taken(gpu).isdisjoint(span(start, profile.size)):
                return number, start
    return None


def taken(places: Sequence[Place]) -> frozenset[int]:
    """The slices of a GPU that are used."""
    return frozenset[int]().union(*(span(start, one.size) for one, start in places))


async def served_by_dra(wanted: Sequence[Claim], root: Path) -> int:
    """How many get an instance at once: scheduled by what is published, prepared and, when they
    end, given back."""
    cards, api = Cards(*[PRODUCT] * GPUS), ApiServer()
    node = Life(root, cards, api, [Layout(on_demand=True)])
    await node.settle()
    publisher = Publisher(DRIVER, "node-1", node.driver.plan, api)
    running: list[tuple[float, str]] = []
    count = 0
    for number, claim in enumerate(wanted):
        for end, name in [one for one in running if one[0] <= claim.begin]:
            await node.unprepare(name)
            del api.claims["default", name]
            running.remove((end, name))
        publisher.write(node.driver.plan(api.minor))
        name = f"c{number}"
        try:
            api.schedule(name, f"u-{name}", wants(claim.profile))
        except UnschedulableError:
            continue
        await node.prepare(name)
        running.append((claim.end, name))
        count += 1
    assert sum(len(cards.places(gpu)) for gpu in cards.gpus) == len(running)
    return count


def wants(profile: str) -> Callable[[Mapping[str, Any]], bool]:
    """As a selector of a claim for MIG."""
    return lambda device: device["attributes"].get("profile", {}).get("string") == profile


def layouts() -> Iterator[Counter[str]]:
    """Every way to cut one GPU that leaves no room for another instance."""
    known = profiles()
    for size in range(1, 8):
        for names in combinations_with_replacement(known, size):
            wanted = [known[name] for name in names]
            full = places_for(wanted, frozenset(), tuple(known.values()))
            if full is not None and not has_room(full, known):
                yield Counter(names)


def has_room(places: Sequence[Place], known: Mapping[str, Profile]) -> bool:
    """Whether one more instance fits."""
    used = [one.name for one, _ in places]
    every = tuple(known.values())
    return any(places_for([one], taken(places), every, used) for one in every)


def served_alone(wanted: Sequence[Claim], profile: str, count: int) -> int:
    """How many claims of a profile get one of `count` instances that stand."""
    busy: list[float] = []
    served = 0
    for claim in wanted:
        if claim.profile == profile:
            busy = [end for end in busy if end > claim.begin]
            if len(busy) < count:
                busy.append(claim.end)
                served += 1
    return served


Stock = tuple[int, ...]  # instances on all GPUs, by profile as in WEIGHTS
Table = Sequence[Sequence[int]]  # by profile: claims served by so many instances


def stocks() -> Sequence[Stock]:
    """Everything that layouts of all GPUs can have in all, whichever GPU has which."""
    each = {tuple(one[name] for name in WEIGHTS) for one in layouts()}
    found: set[Stock] = {(0,) * len(WEIGHTS)}
    for _ in range(GPUS):
        found = {tuple(map(sum, zip(a, b, strict=True))) for a in found for b in each}
    return sorted(found)


def table(orders: Sequence[Sequence[Claim]], most: Stock) -> Table:
    """What each number of instances of each profile serves in all orders."""
    return [
        [sum(served_alone(one, name, n) for one in orders) for n in range(top + 1)]
        for name, top in zip(WEIGHTS, most, strict=True)
    ]


def served_by(stock: Stock, found: Table) -> int:
    """How many get an instance of those that stand, of their own profile."""
    return sum(row[count] for row, count in zip(found, stock, strict=True))


NAMES = (
    "made by DRA",
    "placed as layouts are",
    "first fit",
    "best standing layout",
    "all-balanced on all",
    "best standing, afterwards",
)


def counted(seed: int, possible: Sequence[Stock], best: Stock) -> tuple[int, ...]:
    """What each way serves of one order, as in NAMES."""
    wanted = claims(seed)
    most = tuple(map(max, zip(*possible, strict=True)))
    found = table([wanted], most)
    balanced = published(PRODUCT)["all-balanced"]
    with tempfile.TemporaryDirectory(prefix="b") as root:
        by_dra = asyncio.run(served_by_dra(wanted, Path(root)))
    return (
        by_dra,
        served(wanted, ours),
        served(wanted, first_fit),
        served_by(best, found),
        served_by(tuple(GPUS * balanced.get(name, 0) for name in WEIGHTS), found),
        max(served_by(stock, found) for stock in possible),
    )


def main() -> None:
    """Print each seed, then the medians, and how DRA does beside each other way, by pairs."""
    configure_logs("critical", "console")
    possible = stocks()
    most = tuple(map(max, zip(*possible, strict=True)))
    learned = table([claims(seed) for seed in range(LEARNED, LEARNED + LEARN)], most)
    best = max(possible, key=lambda stock: served_by(stock, learned))
    print(f"{CLAIMS} claims, {GPUS} {PRODUCT}, {SEEDS} seeds; {len(possible)} standing layouts")
    print("best of them:", ", ".join(map(" × ".join, zip(map(str, best), WEIGHTS, strict=True))))
    rows = []
    for seed in range(SEEDS):
        rows.append(counted(seed, possible, best))
        print(seed, *rows[-1], flush=True)
    for name, counts in zip(NAMES, zip(*rows, strict=True), strict=True):
        print(f"{name:25} {told(counts)}")
        more = [row[0] - count for row, count in zip(rows, counts, strict=True)]
        print(f"{'  by DRA more':25} {told(more)}")


def told(counts: Sequence[int]) -> str:
    """Of one way on all seeds, or of a difference."""
    low, _, high = statistics.quantiles(counts, n=4)
    above, below = sum(one > 0 for one in counts), sum(one < 0 for one in counts)
    return (
        f"median {statistics.median(counts):5.1f}, mean {statistics.fmean(counts):6.2f}, quarters"
        f" {low:.1f} and {high:.1f}, {min(counts)} to {max(counts)}, {above} above 0, {below} below"
    )


if __name__ == "__main__":
    main()
