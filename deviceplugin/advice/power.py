"""Power caps whose effect the history shows, and GPUs that are hotter than their peers; pure."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from msgspec import Struct

from deviceplugin.advice.idle_state import works
from deviceplugin.advice.values import Advice, Change
from deviceplugin.cost.history import Cell, History

LEAST_HOURS = 24  # under each limit
MOST_SLOWER = 0.05  # of the clock
LEAST_LESS = 0.05  # of the power
HOTTER_K = 10.0
ALIKE = 0.1  # of the power of peers


class Limited(Struct, frozen=True, kw_only=True):
    """What working GPUs of a model did under one limit of power."""

    watts: float
    hours: float
    power: float
    clock: float


def power_caps(history: History) -> Iterator[Advice]:
    """By model: the limit that took least power for the clock that it cost, among those that were
    in force long enough."""
    cells: dict[str, dict[float, list[Cell]]] = {}
    for cell in working(history):
        limit = cell.readings.power_limit_watts
        if limit and _watts(cell) is not None and cell.readings.clock_hertz:
            own = cells.setdefault(history.devices[cell.device].model, {})
            own.setdefault(float(round(limit)), []).append(cell)
    for model, by_limit in sorted(cells.items()):
        found = [_limited(limit, own) for limit, own in sorted(by_limit.items())]
        yield from _best(model, [one for one in found if one.hours >= LEAST_HOURS])


def working(history: History) -> Iterator[Cell]:
    """The cells of whole GPUs that work."""
    for cell in history.cells:
        if works(cell) and not history.devices[cell.device].parent:
            yield cell


def _limited(limit: float, cells: Sequence[Cell]) -> Limited:
    return Limited(
        watts=limit,
        hours=sum(cell.seconds for cell in cells) / 3600,
        power=fmean(_watts(cell) or 0.0 for cell in cells),
        clock=fmean(cell.readings.clock_hertz or 0.0 for cell in cells),
    )


def _watts(cell: Cell) -> float | None:
    """By the counter of energy, else the mean power."""
    if cell.readings.energy_joules is not None:
        return cell.readings.energy_joules / cell.seconds
    return cell.readings.power_watts


def _best(model: str, found: Sequence[Limited]) -> Iterator[Advice]:
    if len(found) < 2:
        return
    highest = found[-1]
    good = [
        one
        for one in found[:-1]
        if one.clock >= highest.clock * (1 - MOST_SLOWER)
        and one.power <= highest.power * (1 - LEAST_LESS)
    ]
    if not good:
        return
    best = min(good, key=lambda one: one.power)
    evidence = {
        f"under_{one.watts:.0f}_watts": {
            "hours": round(one.hours, 1),
            "power_watts": round(one.power, 1),
            "clock_megahertz": round(one.clock / 1e6, 1),
        }
        for one in found
    }
    yield _cap(model, best, highest, evidence)


def _cap(model: str, best: Limited, highest: Limited, evidence: Mapping[str, Any]) -> Advice:
    less, slower = 1 - best.power / highest.power, 1 - best.clock / highest.clock
    return Advice(
        kind="power-cap",
        subject=model,
        text=(
            f"limit power to {best.watts:.0f} W: under it working GPUs took {100 * less:.0f} %"
            f" less than under {highest.watts:.0f} W at a clock {100 * slower:.1f} % lower. Other"
            " work may lose more: the two were not the same jobs"
        ),
        evidence=evidence,
        change=Change(
            kind="energy", model=model, limit_watts=best.watts, factor=round(1 - less, 6)
        ),
    )


def thermal_imbalance(history: History) -> Iterator[Advice]:
    """GPUs that were hotter than those of their model on their node at the same power, hour by
    hour."""
    differences: dict[str, list[tuple[float, float]]] = {}
    for cells in _peers(history).values():
        for cell in cells:
            others = [one for one in cells if one is not cell and _alike(one, cell)]
            if others:
                heat = median(_heat(one) for one in others)
                clock = median(one.readings.clock_hertz or 0.0 for one in others)
                slower = 1 - (cell.readings.clock_hertz or clock) / clock if clock else 0.0
                differences.setdefault(cell.device, []).append((_heat(cell) - heat, slower))
    for device, found in sorted(differences.items()):
        hotter = median(one for one, _ in found)
        if len(found) >= LEAST_HOURS and hotter >= HOTTER_K:
            yield _hot(history, device, (hotter, median(one for _, one in found)), len(found))


def _hot(history: History, device: str, found: tuple[float, float], count: int) -> Advice:
    hotter, slower = found
    one = history.devices[device]
    return Advice(
        kind="thermal-imbalance",
        subject=f"{device} on {one.node}",
        text=(
            f"{hotter:.0f} K hotter than GPUs of its model beside it at the same power, and"
            f" {100 * slower:.1f} % slower: look at its cooling. No saving is claimed"
        ),
        evidence={"comparisons": count, "hotter_kelvin": round(hotter, 1)},
    )


def _peers(history: History) -> Mapping[tuple[str, str, float], Sequence[Cell]]:
    """Working cells with heat and power, by node, model and start."""
    found: dict[tuple[str, str, float], list[Cell]] = {}
    for cell in working(history):
        if cell.readings.temperature_celsius is not None and _watts(cell):
            device = history.devices[cell.device]
            found.setdefault((device.node, device.model, cell.start), []).append(cell)
    return found


def _alike(one: Cell, other: Cell) -> bool:
    first, second = _watts(one) or 0.0, _watts(other) or 0.0
    return abs(first - second) <= ALIKE * max(first, second)


def _heat(cell: Cell) -> float:
    return cell.readings.temperature_celsius or 0.0
