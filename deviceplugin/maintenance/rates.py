"""Rates of failure, estimated again after each window of the past; pure.

The rate of a cohort is that of its last windows, kind by kind; what a GPU has by its traits is how
much more or less often others with the trait failed than their cohorts did. Nothing here knows
what comes after the last window that was learned.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from deviceplugin.maintenance.units import Kind, Unit

# A window before the last counts half, and a change between the two goes on as far as there were
# failures enough to believe it: _STEADY of them for half of the change.
_BEFORE = 0.5
_STEADY = 30.0
_MOST_CHANGE = 2.0
# A trait's factor begins at 1 with as much weight as this many failures.
_TRAIT_PRIOR = 15.0
# A cohort without failures has the rate of all, with the weight of one failure.
_COHORT_PRIOR = 1.0
_FLEET_PRIOR = (0.5, 500.0)  # failures, GPUs: before anything was seen


class Window(Struct, frozen=True, kw_only=True):
    """What a window of the past held: of each cohort the GPUs, and the failures by kind."""

    units: Mapping[str, int]
    failures: Mapping[tuple[str, Kind], int]

    def failed(self, cohort: str) -> int:
        """Of all kinds."""
        return sum(self.failures.get((cohort, kind), 0) for kind in Kind)


class Hazard(Struct, frozen=True, kw_only=True):
    """The probability that a GPU fails in the next window, by kind."""

    kinds: Mapping[Kind, float] = field(default_factory=dict)

    @property
    def probability(self) -> float:
        """By any of them: they compete, so their sum is cut at what can be."""
        return min(sum(self.kinds.values()), 0.99)


_NOTHING = Window(units={}, failures={})


class Rates:
    """Learns window after window; scores what is there at the end of the last."""

    def __init__(self) -> None:
        self._windows: list[Window] = []
        self._failed: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._expected: defaultdict[tuple[str, str], float] = defaultdict(float)

    def learn(self, units: Sequence[Unit], start: int, end: int) -> None:
        """Add the window from `start` until before `end` (days), over the units there at its
        start."""
        there = [unit for unit in units if unit.is_there(start)]
        window = _window(there, start, end)
        self._windows.append(window)
        rates = {c: window.failed(c) / count for c, count in window.units.items()}
        for unit in there:
            failed = unit.fails(start, end) is not None
            for trait in unit.traits:
                key = family_of(unit.cohort), trait
                self._expected[key] += rates[unit.cohort]
                self._failed[key] += failed

    def scores(self, units: Sequence[Unit]) -> list[Hazard]:
        """The hazard of each unit; a cohort's mean is the cohort's own rate."""
        factors = [self._factor(unit) for unit in units]
        sums: defaultdict[str, float] = defaultdict(float)
        counts: defaultdict[str, int] = defaultdict(int)
        for unit, factor in zip(units, factors, strict=True):
            sums[unit.cohort] += factor
            counts[unit.cohort] += 1
        rates = {cohort: self.cohort_rate(cohort) for cohort in counts}
        return [
            _times(rates[unit.cohort], factor * counts[unit.cohort] / sums[unit.cohort])
            for unit, factor in zip(units, factors, strict=True)
        ]

    def cohort_rate(self, cohort: str) -> Hazard:
        """The cohort's probability to fail in the next window, by kind."""
        last, before = self._last(0), self._last(1)
        failures = last.failed(cohort) + _BEFORE * before.failed(cohort)
        units = last.units.get(cohort, 0) + _BEFORE * before.units.get(cohort, 0)
        fleet = self._fleet_rate(cohort)
        rate = (failures + _COHORT_PRIOR) / (units + _COHORT_PRIOR / fleet)
        rate *= _change(last, before, cohort, fleet)
        shares = {
            kind: last.failures.get((cohort, kind), 0)
            + _BEFORE * before.failures.get((cohort, kind), 0)
            + _COHORT_PRIOR / len(Kind)
            for kind in Kind
        }
        total = sum(shares.values())
        return Hazard(kinds={kind: rate * share / total for kind, share in shares.items()})

    def weight(self, cohort: str) -> float:
        """From how many failures the cohort's rate is estimated, the prior among them."""
        before = _BEFORE * self._last(1).failed(cohort)
        return self._last(0).failed(cohort) + before + _COHORT_PRIOR

    def _fleet_rate(self, cohort: str) -> float:
        """Of the cohorts of the same family."""
        family = family_of(cohort)
        failures, units = _FLEET_PRIOR
        for window in (self._last(0), self._last(1)):
            for name, count in window.units.items():
                if family_of(name) == family:
                    units += count
                    failures += window.failed(name)
        return failures / units

    def _factor(self, unit: Unit) -> float:
        factor = 1.0
        for trait in unit.traits:
            key = family_of(unit.cohort), trait
            failed, expected = self._failed.get(key, 0.0), self._expected.get(key, 0.0)
            factor *= (failed + _TRAIT_PRIOR) / (expected + _TRAIT_PRIOR)
        return factor

    def _last(self, back: int) -> Window:
        return self._windows[-1 - back] if back < len(self._windows) else _NOTHING


def family_of(cohort: str) -> str:
    """What several cohorts have in common: `old` of `old/cage-2`."""
    return cohort.partition("/")[0]


def _window(there: Iterable[Unit], start: int, end: int) -> Window:
    units: defaultdict[str, int] = defaultdict(int)
    failures: defaultdict[tuple[str, Kind], int] = defaultdict(int)
    for unit in there:
        units[unit.cohort] += 1
        kind = unit.fails(start, end)
        if kind is not None:
            failures[unit.cohort, kind] += 1
    return Window(units=dict(units), failures=dict(failures))


def _change(last: Window, before: Window, cohort: str, fleet: float) -> float:
    """How the rate goes on: by what it did between the two windows, as far as that is believed."""
    fewer = min(last.failed(cohort), before.failed(cohort))
    rates = [
        (window.failed(cohort) + _COHORT_PRIOR)
        / (window.units.get(cohort, 0) + _COHORT_PRIOR / fleet)
        for window in (last, before)
    ]
    change = max(1 / _MOST_CHANGE, min(_MOST_CHANGE, rates[0] / rates[1]))
    return float(change ** (fewer / (fewer + _STEADY)))


def _times(hazard: Hazard, factor: float) -> Hazard:
    return Hazard(kinds={kind: value * factor for kind, value in hazard.kinds.items()})
