"""Rates of failure, estimated again after each window of the past; pure.

The rate of a cohort is that of its last windows, kind by kind; what a GPU has by its traits is how
much more or less often others with the trait failed than their cohorts did, and what it has by a
sign how much more often those failed that had it before. Nothing here knows what comes after the
last window that was learned.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct, field

from deviceplugin.maintenance.signs import Noted
from deviceplugin.maintenance.units import Kind, Unit

# A window before the last counts half, and a rise over the last three goes on as far as there were
# failures enough to believe it: _STEADY of them for half of the rise. What wears out does not heal:
# a fall is chance or somebody's work, and is not expected to go on.
_BEFORE = 0.5
_STEADY = 30.0
_MOST_CHANGE = 2.0
# A trait's factor begins at 1 with as much weight as this many failures.
_TRAIT_PRIOR = 15.0
# A sign's ratio begins at 1 with less: it is rare, and may be worth much more than a place.
_SIGN_PRIOR = 2.0
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


class Worth(Struct, frozen=True, kw_only=True):
    """What a sign is worth for a kind of failure: failures of those that had it, and how many their
    cohorts' rates expected."""

    failed: float
    expected: float

    @property
    def ratio(self) -> float:
        """How many times the rate of others it is."""
        return (self.failed + _SIGN_PRIOR) / (self.expected + _SIGN_PRIOR)


_NOTHING = Window(units={}, failures={})
_UNKNOWN = Worth(failed=0.0, expected=0.0)
Signs = Mapping[str, frozenset[str]]  # of each GPU


class Rates:
    """Learns window after window; scores what is there at the end of the last."""

    def __init__(self, noted: Noted | None = None) -> None:
        self._noted, self._day = noted or Noted(), 0
        self.worth: dict[tuple[str, Kind], Worth] = {}
        self._windows: list[Window] = []
        self._failed: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._expected: defaultdict[tuple[str, str], float] = defaultdict(float)

    def learn(self, units: Sequence[Unit], start: int, end: int) -> None:
        """Add the window from `start` until before `end` (days), over the units there at its
        start."""
        there = [unit for unit in units if unit.is_there(start)]
        window = _window(there, start, end)
        self._windows.append(window)
        self._day = end
        rates = {c: window.failed(c) / count for c, count in window.units.items()}
        for unit in there:
            failed = unit.fails(start, end)
            for trait in unit.traits:
                key = family_of(unit.cohort), trait
                self._expected[key] += rates[unit.cohort]
                self._failed[key] += failed is not None
            for sign in self._noted.before(unit.gpu, start):
                for kind in Kind:
                    rate = window.failures.get((unit.cohort, kind), 0) / window.units[unit.cohort]
                    self._learn_sign((sign, kind), rate, came=failed is kind)

    def _learn_sign(self, key: tuple[str, Kind], rate: float, *, came: bool) -> None:
        old = self.worth.get(key, _UNKNOWN)
        self.worth[key] = Worth(failed=old.failed + came, expected=old.expected + rate)

    def scores(self, units: Sequence[Unit], signs: Signs | None = None) -> list[Hazard]:
        """The hazard of each unit; a cohort's mean is the cohort's own rate. `signs` are those that
        units have now, where they are not those that were noted."""
        signs = signs or {}
        factors = [self._factors(unit, signs) for unit in units]
        sums: defaultdict[tuple[str, Kind], float] = defaultdict(float)
        counts: defaultdict[str, int] = defaultdict(int)
        for unit, by_kind in zip(units, factors, strict=True):
            counts[unit.cohort] += 1
            for kind, factor in by_kind.items():
                sums[unit.cohort, kind] += factor
        rates = {cohort: self.cohort_rate(cohort).kinds for cohort in counts}
        return [
            Hazard(
                kinds={
                    kind: rates[unit.cohort][kind]
                    * (factor * counts[unit.cohort] / sums[unit.cohort, kind])
                    for kind, factor in by_kind.items()
                }
            )
            for unit, by_kind in zip(units, factors, strict=True)
        ]

    def cohort_rate(self, cohort: str) -> Hazard:
        """The cohort's probability to fail in the next window, by kind."""
        last, before = self._last(0), self._last(1)
        failures = last.failed(cohort) + _BEFORE * before.failed(cohort)
        units = last.units.get(cohort, 0) + _BEFORE * before.units.get(cohort, 0)
        fleet = self._fleet_rate(cohort)
        rate = (failures + _COHORT_PRIOR) / (units + _COHORT_PRIOR / fleet)
        rate *= _rise([last, before, self._last(2)], cohort, fleet)
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

    def _factors(self, unit: Unit, signs: Signs) -> Mapping[Kind, float]:
        """Of its traits, and of the sign that says most: signs come together."""
        trait = 1.0
        for name in unit.traits:
            key = family_of(unit.cohort), name
            failed, expected = self._failed.get(key, 0.0), self._expected.get(key, 0.0)
            trait *= (failed + _TRAIT_PRIOR) / (expected + _TRAIT_PRIOR)
        has = signs.get(unit.gpu, None)
        has = self._noted.before(unit.gpu, self._day) if has is None else has
        return {kind: trait * self._ratio(has, kind) for kind in Kind}

    def _ratio(self, signs: frozenset[str], kind: Kind) -> float:
        ratios = [self.worth.get((sign, kind), _UNKNOWN).ratio for sign in sorted(signs)]
        return max(ratios, key=lambda ratio: abs(math.log(ratio)), default=1.0)

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


def _rise(windows: Sequence[Window], cohort: str, fleet: float) -> float:
    """By what the rate goes on to rise: the mean of its last two changes (the latest window is the
    first), as far as that is believed."""
    failed = [window.failed(cohort) for window in windows]
    rates = [
        (count + _COHORT_PRIOR) / (window.units.get(cohort, 0) + _COHORT_PRIOR / fleet)
        for count, window in zip(failed, windows, strict=True)
    ]
    changes = [max(1 / _MOST_CHANGE, min(_MOST_CHANGE, a / b)) for a, b in pairwise(rates)]
    fewer = min(failed[:2])
    return float(max(1.0, math.prod(changes) ** 0.5) ** (fewer / (fewer + _STEADY)))
