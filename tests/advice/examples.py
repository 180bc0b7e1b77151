"""Workloads of days, hour by hour, for tests of advice."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from deviceplugin.advice.advise import Adviser
from deviceplugin.advice.values import Advice
from deviceplugin.advice.wishes import Wishes
from deviceplugin.cost.bill import Biller
from deviceplugin.cost.history import Cell, Grant, History, Readings
from tests.cost.examples import cell, costs, device, grant, history

GIB = 1 << 30
DAY = 24
Make = Callable[[int], Grant | None]


def hourly(make: Make, of: str = "GPU-0", days: int = 14, **readings: Any) -> Sequence[Cell]:
    """A device for days; `make` gives what somebody has of it in an hour."""
    read = Readings(**readings)
    made = ((hour, make(hour)) for hour in range(days * DAY))
    return [cell(*([one] if one else []), of=of, hour=h, readings=read) for h, one in made]


def steady(pod: str = "p", gibibytes: float = 10, active: float = 0.3, **keys: Any) -> Make:
    """The same in every hour; memory varies a little, as that of a program does."""
    return lambda hour: grant(
        pod,
        active=active,
        **({"memory_bytes": round((gibibytes - 0.5 * (hour % 5)) * GIB), "copying": 0.2} | keys),
    )


def fleet(*cells: Iterable[Cell], gpus: int = 1, **keys: Any) -> History:
    devices = tuple(device(f"GPU-{number}", **keys) for number in range(gpus))
    return history(*(one for group in cells for one in group), devices=devices)


def adviser(found: History, *, consent: bool = False, **keys: Any) -> Adviser:
    section = costs(**keys)
    wishes = Wishes(consent=consent, interactive=section.interactive)
    return Adviser(found, Biller(section), wishes)


def of_kind(found: Sequence[Advice], kind: str) -> list[Advice]:
    return [one for one in found if one.kind == kind]
