"""What a node's own history says of its GPUs: read here, judged elsewhere."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from deviceplugin.maintenance.certain import failure_of
from deviceplugin.maintenance.life import Wear
from deviceplugin.maintenance.prior import YEAR_DAYS
from deviceplugin.maintenance.signs import NOTED_DAYS, Observed
from deviceplugin.maintenance.units import Kind
from deviceplugin.telemetry.history import DAY_S, FAULT, HOUR_S, KEPT_S, History, Point, Series
from deviceplugin.telemetry.keeping import ANSWERED, BANKS, GROWTH, HELD, WORN_BANKS

_HIGHS = ("temperature_celsius", "power_watts")
_EPOCH = 719_163  # the ordinal of 1970-01-01
Days = Mapping[int, Point]


class Node(Struct, frozen=True, kw_only=True):
    """Of the GPUs that are there. `failures` are days (ordinals) and kinds; `held` how many GPUs
    somebody had in each hour since 1970, of hours in which all of them were measured."""

    gpus: Sequence[str] = ()
    series: Mapping[str, Mapping[str, Days]] = field(default_factory=dict)
    failures: Mapping[str, Sequence[tuple[int, Kind]]] = field(default_factory=dict)
    held: Mapping[int, float] = field(default_factory=dict)

    @property
    def years(self) -> float:
        """GPU-years that were measured."""
        return sum(_measured(self._of(gpu, ANSWERED)) for gpu in self.gpus) / YEAR_DAYS

    def days(self) -> Sequence[int]:
        """All days of which anything is known."""
        return sorted({day for gpu in self.gpus for day in self._of(gpu, ANSWERED)})

    def observed(self, day: int) -> Mapping[str, Observed]:
        """What was measured of each GPU in the NOTED_DAYS to a day, which is in them."""
        return {gpu: self._observed(gpu, day) for gpu in self.gpus if self._of(gpu, ANSWERED, day)}

    def wear(self, gpu: str) -> Wear:
        """Of the whole history."""
        worn, banks = self._of(gpu, WORN_BANKS), self._of(gpu, BANKS)
        return Wear(
            days=_measured(self._of(gpu, ANSWERED)),
            remapped=_sum(self._of(gpu, "remapped_rows")),
            worn_banks=worn[max(worn)].high if worn else 0.0,
            banks=banks[max(banks)].high if banks else 0.0,
        )

    def _observed(self, gpu: str, day: int) -> Observed:
        growth = {name: self._of(gpu, name, day) for name in GROWTH}
        highs = {name: self._of(gpu, name, day) for name in _HIGHS}
        answered = self._of(gpu, ANSWERED, day)
        return Observed(
            days=_measured(answered),
            growth={name: _sum(days) for name, days in growth.items() if days},
            highs={
                name: sum(point.high for point in days.values()) / len(days)
                for name, days in highs.items()
                if days
            },
            answered=_sum(answered) / sum(point.count for point in answered.values()),
        )

    def _of(self, gpu: str, metric: str, day: int | None = None) -> Days:
        """All days, or those of the NOTED_DAYS to a day."""
        found = self.series.get(metric, {}).get(gpu, {})
        if day is None:
            return found
        return {at: point for at, point in found.items() if day - NOTED_DAYS < at <= day}


def read_node(state_dir: Path, gpus: Sequence[str], now: float) -> Node:
    """Of the file in the state directory, nothing where there is none; raises OSError."""
    history = History(state_dir, writes=False)
    try:
        return _read(history, gpus, now)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
    finally:
        history.close()


def _read(history: History, gpus: Sequence[str], now: float) -> Node:
    start = now - KEPT_S[DAY_S]
    known = frozenset(history.series())
    metrics = (ANSWERED, WORN_BANKS, BANKS, *GROWTH, *_HIGHS)
    series = {
        metric: {
            gpu: {
                point.at // DAY_S + _EPOCH: point
                for point in history.steps(DAY_S, Series(metric, gpu), start, now)
            }
            for gpu in gpus
            if Series(metric, gpu) in known
        }
        for metric in metrics
    }
    failures: dict[str, dict[int, Kind]] = {}
    for event in history.events(start, now):
        kind = failure_of(event.text.partition(": ")[0]) if event.kind == FAULT else None
        if kind is not None and event.subject in gpus:  # a day's faults are one failure
            failures.setdefault(event.subject, {}).setdefault(day_of(event.at), kind)
    return Node(
        gpus=tuple(gpus),
        series=series,
        failures={gpu: sorted(found.items()) for gpu, found in failures.items()},
        held=dict(_held(history, gpus, now)),
    )


def _held(history: History, gpus: Sequence[str], now: float) -> Iterator[tuple[int, float]]:
    """Hours that are over and of which all GPUs tell."""
    sums: dict[int, list[float]] = {}
    for gpu in gpus:
        for point in history.steps(HOUR_S, Series(HELD, gpu), now - KEPT_S[HOUR_S], now):
            sums.setdefault(point.at // HOUR_S, []).append(point.mean)
    for hour, values in sums.items():
        if len(values) == len(gpus) and (hour + 1) * HOUR_S <= now:
            yield hour, sum(values)


def day_of(now: float) -> int:
    """The ordinal of the day (UTC) of a Unix second."""
    return int(now) // DAY_S + _EPOCH


def _sum(days: Days) -> float:
    return sum(point.mean * point.count for point in days.values())


def _measured(days: Days) -> float:
    """Days, of which the one with the most measurements is a whole one."""
    counts = [point.count for point in days.values()]
    return sum(counts) / max(counts) if counts else 0.0
