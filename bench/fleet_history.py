"""A made-up history of a fleet, for measuring `fleet cost` and `fleet advice`: nobody's figures.

Usage: python -m bench.fleet_history [--gpus 200] [--days 30] [--seed 7] [--picture SVG] FILE
The picture is that of the bill by the prices of examples/fleet/costs.yaml.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from deviceplugin.cli.fleet_cost import biller_of, read_costs
from deviceplugin.cost.files import write_history
from deviceplugin.cost.fragment import split_svg
from deviceplugin.cost.history import Cell, Device, Grant, History, Readings
from deviceplugin.cost.report import bill_document

GIB = 1 << 30
HOUR = 3600.0
START = datetime.fromisoformat("2026-03-01T00:00:00+00:00").timestamp()
MODELS = (
    ("nvidia", "NVIDIA H100 80GB HBM3", 80),
    ("nvidia", "NVIDIA A100-SXM4-40GB", 40),
    ("amd", "AMD Instinct MI300X", 192),
)
# What a GPU is used for, with a weight: whole by training, services in slices, a notebook, nothing.
KINDS = {"train": 4, "serve": 3, "notebook": 2, "free": 1}


def device(number: int) -> Device:
    """GPUs of three models, eight on a node."""
    node = number // 8
    vendor, model, gibibytes = MODELS[node % len(MODELS)]
    return Device(
        id=f"GPU-{number:04}",
        node=f"node-{node}",
        vendor=vendor,
        model=model,
        memory_bytes=gibibytes * GIB,
    )


def cells(one: Device, days: int, chance: random.Random) -> Iterator[Cell]:
    """A GPU's hours: what it is used for changes about once in four days."""
    kind, job = "free", 0
    for hour in range(days * 24):
        if hour == 0 or chance.random() < 0.01:
            kind, job = chance.choices([*KINDS], [*KINDS.values()])[0], hour
        grants = tuple(_grants(kind, one, (job, hour), chance))
        active = min(1.0, sum(grant.active or 0.0 for grant in grants))
        watts = 70 + 600 * active * chance.uniform(0.95, 1.05)
        read = Readings(energy_joules=watts * HOUR, power_watts=watts, power_limit_watts=700)
        start = START + hour * HOUR
        yield Cell(device=one.id, start=start, seconds=HOUR, grants=grants, readings=read)


def _grants(kind: str, one: Device, at: tuple[int, int], chance: random.Random) -> Sequence[Grant]:
    job, hour = at
    night = hour % 24 < 7
    if kind == "train":
        return [_grant(one, ("ml", f"train-{one.id}-{job}"), 1.0, (0.9, 0.7), chance)]
    if kind == "notebook":
        busy = 0.0 if night or chance.random() < 0.5 else 0.3
        return [_grant(one, ("lab", f"notebook-{one.id[-2:]}"), 1.0, (busy, 0.1), chance)]
    if kind == "serve":
        busy = 0.02 if night else 0.2
        pods = [("web", f"serve-{one.id}-{n}") for n in range(3)]
        return [_grant(one, pod, 0.25, (busy, 0.15), chance) for pod in pods]
    return []


def _grant(
    one: Device,
    who: tuple[str, str],
    share: float,
    use: tuple[float, float],
    chance: random.Random,
) -> Grant:
    active, memory = use
    return Grant(
        namespace=who[0],
        pod=who[1],
        owner=who[1].rsplit("-", 1)[0],
        team=f"team-{len(who[1]) % 3}",
        share=share,
        active=active * chance.uniform(0.9, 1.0),
        copying=active / 2,
        memory_bytes=round((one.memory_bytes or 0) * memory * chance.uniform(0.8, 1.0)),
    )


def made(gpus: int, days: int, seed: int) -> History:
    """The same history for the same numbers."""
    chance = random.Random(seed)
    devices = [device(number) for number in range(gpus)]
    found = tuple(cell for one in devices for cell in cells(one, days, chance))
    return History(devices={one.id: one for one in devices}, cells=found)


def picture(history: History) -> str:
    """The bill by namespace, drawn."""
    costs = read_costs(str(Path(__file__).parents[1] / "examples/fleet/costs.yaml"))
    return split_svg(bill_document(biller_of(costs).bill(history), "namespace", costs.zone))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=200)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("file", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    history = made(asked.gpus, asked.days, asked.seed)
    write_history(asked.file, history)
    if asked.picture:
        asked.picture.write_text(picture(history), encoding="utf-8")
