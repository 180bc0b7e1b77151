"""How many claims for MIG profiles eight GPUs can serve: `python -m bench.partitions`.

100 claims come in a random order and go again after a random while. Instances are made when a claim
asks: by DRA, from slices through Prepare to the privileged process's journal, with a scheduler that
takes the first device that is free; by the placement code of layouts; and at the first place that
is free. Beside them stand layouts: NVIDIA's `all-balanced`, and the best that such GPUs can have,
chosen afterwards, with the claims known. Nothing is measured on hardware; it counts claims.
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
BY_DRA = 3  # seeds: each of their claims passes the whole way
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


def served_by(wanted: Sequence[Claim], stock: Mapping[str, int]) -> int:
    """How many get an instance of those that stand, of their own profile."""
    ends: dict[str, list[float]] = {name: [] for name in WEIGHTS}
    count = 0
    for claim in wanted:
        busy = ends[claim.profile] = [end for end in ends[claim.profile] if end > claim.begin]
        if len(busy) < stock.get(claim.profile, 0):
            busy.append(claim.end)
            count += 1
    return count


def best_static(wanted: Sequence[Claim], possible: Sequence[Counter[str]]) -> int:
    """GPU after GPU the layout that serves the most, then one after the other changed for a
    better one, until none is: with the claims known, which nobody has."""
    chosen: list[Counter[str]] = []

    def worth(layouts: Sequence[Counter[str]]) -> int:
        return served_by(wanted, sum(layouts, Counter[str]()))

    while len(chosen) < GPUS:
        chosen.append(max(possible, key=lambda one: worth([*chosen, one])))
    while True:
        before = worth(chosen)
        for number in range(GPUS):
            others = chosen[:number] + chosen[number + 1 :]
            chosen = [*others, max(possible, key=lambda one: worth([*others, one]))]
        if worth(chosen) == before:
            return before


def main() -> None:
    """Print the medians and the worst of all seeds."""
    configure_logs("critical", "console")
    possible = list(layouts())
    names = (
        "made by DRA",
        "made on demand",
        "first fit",
        "all-balanced on all",
        "best layout that stands",
    )
    balanced = {name: GPUS * count for name, count in published(PRODUCT)["all-balanced"].items()}
    rows: dict[str, list[int]] = {name: [] for name in names}
    for seed in range(SEEDS):
        wanted = claims(seed)
        if seed < BY_DRA:
            with tempfile.TemporaryDirectory(prefix="b") as root:
                rows["made by DRA"].append(asyncio.run(served_by_dra(wanted, Path(root))))
        rows["made on demand"].append(served(wanted, ours))
        rows["first fit"].append(served(wanted, first_fit))
        rows["all-balanced on all"].append(served_by(wanted, balanced))
        rows["best layout that stands"].append(best_static(wanted, possible))
    print(f"{CLAIMS} claims, {GPUS} {PRODUCT}, {SEEDS} seeds, {len(possible)} layouts of a GPU")
    for name, counts in rows.items():
        spread = f"{min(counts)} to {max(counts)}"
        print(f"{name:24} {statistics.median(counts):5.1f} served at once, {spread}")
    rows["made by DRA"] = []  # the others on its seeds
    for name, counts in rows.items():
        if counts:
            print(
                f"{name:24} {statistics.median(counts[:BY_DRA]):5.1f} on the first {BY_DRA} seeds"
            )


if __name__ == "__main__":
    main()
