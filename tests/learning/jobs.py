"""Runs that are made up: owners with lengths of their own."""

import random
from collections.abc import Iterator

from deviceplugin.learning.runs import Run

HOUR = 3600.0
LENGTHS = {"train": 4 * HOUR, "infer": 600.0, "sweep": 60.0}
MODES = {"train": (3 * HOUR, 12 * HOUR)}  # what is run again and again is of few kinds


def jobs(count: int, seed: int = 1) -> Iterator[Run]:
    """Jobs of three owners in two namespaces, ten minutes apart."""
    chance = random.Random(seed)
    for number in range(count):
        owner = chance.choice(list(LENGTHS))
        seconds = chance.choice(MODES.get(owner, (LENGTHS[owner],)))
        yield Run(
            namespace=chance.choice(["ml", "web"]),
            owner=owner,
            container="main",
            start=600.0 * number,
            seconds=seconds * chance.lognormvariate(0, 0.2),
            peak_mib=1000.0 if owner == "infer" else 30_000.0,
            busy_ratio=0.2 if owner == "infer" else 0.9,
        )
