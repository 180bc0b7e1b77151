"""A fleet of GPUs and its failures, drawn by the published figures of one that was observed; pure.

Titan's 18,688 K20X (Ostrouchov et al., SC'20, the data of which have no licence: only condensed
figures stand here). What is taken from it: the first failures of each cage in each quarter, the
GPUs at risk at two dates, the rates of the four nodes of a blade, the hazard ratios of row and
slot, the rates of the reworked batch by age, the shares of double-bit errors and of GPUs that fell
off the bus. Nothing else precedes a failure here, since no rates of precursors were published.
"""

import functools
import random
from collections.abc import Iterator, Sequence

from msgspec import Struct

from deviceplugin.maintenance.units import Kind, Unit

QUARTER_DAYS = 91
FIRST_TESTED = 10  # quarters from 2014Q1 on: 2016Q3, as the published baselines are tested
# First failures of the first batch, by quarter from 2014Q1 on and by cage.
FAILURES = (
    *((5, 1, 1), (4, 4, 7), (0, 5, 2), (1, 4, 1), (1, 2, 1), (1, 3, 2), (2, 12, 30), (5, 21, 81)),
    *((3, 47, 158), (20, 87, 288), (24, 132, 380), (32, 223, 520), (48, 191, 215)),
    *((92, 104, 103), (70, 143, 45), (98, 113, 37), (81, 88, 4), (131, 118, 1), (143, 132, 0)),
    *((125, 127, 0), (177, 132, 1), (187, 142, 1)),
)
QUARTERS = len(FAILURES)
_KNOWN = (8, (6921, 6393, 5292)), (14, (6684, 3500, 241))  # at risk in 2016Q1 and in 2017Q3
# GPU-years by age show that cages 1 and 2 were replaced in these quarters (2016Q4-2017Q2), and
# that some went later; the shares that went later are chosen.
_REPLACED = range(11, 14)
_LATER = (0.0, 0.05, 0.2)
_NODES = (8.0, 8.7, 5.8, 4.6)  # failures of 100 GPU-years of the first batch
_MEAN = 6.6
_ROWS = {7: 0.39}
_SLOTS = {6: 1.15, 7: 1.22}
# GPU-years and failures of the reworked batch by cage and year of age.
_REWORKED = (
    ((725, 1), (437, 1), (108, 0)),
    ((4046, 5), (3538, 5), (1239, 6)),
    ((6379, 18), (6050, 14), (2597, 12)),
)
# The part of the failures that were double-bit errors, by cage and year of age of the first batch.
_MEMORY = (
    *((1.0, 0.5, 0.66, 0.64, 0.86, 0.94), (0.75, 0.77, 0.71, 0.71, 0.84, 0.92)),
    (1.0, 0.75, 0.72, 0.71, 0.96, 1.0),
)
_MEMORY_REWORKED = 53 / 63


class Place(Struct, frozen=True):
    """Where a GPU sits, and so how it is cooled."""

    cage: int
    row: int
    slot: int
    node: int

    @property
    def factor(self) -> float:
        """Of the failures of its cage."""
        return _NODES[self.node] / _MEAN * _ROWS.get(self.row, 1.0) * _SLOTS.get(self.slot, 1.0)


class Card(Struct, frozen=True, kw_only=True):
    """One GPU; quarters are counted from 2014Q1 on."""

    place: Place
    reworked: bool
    since: int


class Fleet:
    """Cards at risk, quarter after quarter."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # chances, not secrets
        self._at_risk: tuple[tuple[float, ...], ...] = tuple(
            zip(*(_at_risk(cage) for cage in range(3)), strict=True)
        )
        self._count = 0
        self.units: list[Unit] = []

    def play(self) -> Sequence[Unit]:
        """All units of all quarters, by when they were removed."""
        here = [self._card(cage) for cage in range(3) for _ in range(round(self._at_risk[0][cage]))]
        for quarter in range(QUARTERS):
            here = list(self._after(here, quarter))
        self.units += [self._unit(card, None, None) for card in here]
        return self.units

    def hazard(self, card: Card, quarter: int) -> float:
        """The probability that a card fails in a quarter."""
        if card.reworked:
            years, failures = _REWORKED[card.place.cage][min((quarter - card.since) // 4, 2)]
            return failures / years / 4
        published = FAILURES[quarter][card.place.cage] / self._at_risk[quarter][card.place.cage]
        return min(published * card.place.factor / _mean_factor(), 0.95)

    def _card(self, cage: int) -> Card:
        draw = self._random.randrange
        return Card(place=Place(cage, draw(8), draw(8), draw(4)), reworked=False, since=0)

    def _after(self, here: Sequence[Card], quarter: int) -> Iterator[Card]:
        """Who is there in the next quarter; what failed or was replaced has a successor."""
        for card in here:
            fails = self._random.random() < self.hazard(card, quarter)
            goes = not card.reworked and self._random.random() < _leaving(card.place.cage, quarter)
            if not fails and not goes:
                yield card
                continue
            kind = self._kind(card, quarter) if fails else None
            self.units.append(self._unit(card, self._day(quarter), kind))
            reworked = card.reworked or quarter >= _KNOWN[0][0]
            yield Card(place=card.place, reworked=reworked, since=quarter + 1)

    def _day(self, quarter: int) -> int:
        return quarter * QUARTER_DAYS + self._random.randrange(QUARTER_DAYS)

    def _kind(self, card: Card, quarter: int) -> Kind:
        memory = _MEMORY_REWORKED if card.reworked else _MEMORY[card.place.cage][quarter // 4]
        return Kind.MEMORY if self._random.random() < memory else Kind.OFF_BUS

    def _unit(self, card: Card, removed: int | None, failure: Kind | None) -> Unit:
        self._count += 1
        place = card.place
        return Unit(
            gpu=f"gpu-{self._count}-{card.since}",
            cohort=f"{'reworked' if card.reworked else 'first'}/cage-{place.cage}",
            traits=(f"row={place.row}", f"slot={place.slot}", f"node={place.node}"),
            installed=card.since * QUARTER_DAYS,
            removed=removed,
            failure=failure,
        )


def ceiling(fleet: Fleet, there: Sequence[Unit], day: int) -> Sequence[float]:
    """The probabilities that the units were drawn by: nobody who predicts can know more."""
    return [fleet.hazard(_card_of(unit), day // QUARTER_DAYS) for unit in there]


def _card_of(unit: Unit) -> Card:
    batch, _, cage = unit.cohort.partition("/cage-")
    row, slot, node = (int(trait.partition("=")[2]) for trait in unit.traits)
    since = unit.installed // QUARTER_DAYS
    return Card(place=Place(int(cage), row, slot, node), reworked=batch == "reworked", since=since)


def _mean_factor() -> float:
    rows = 1 + (sum(_ROWS.values()) - len(_ROWS)) / 8
    slots = 1 + (sum(_SLOTS.values()) - len(_SLOTS)) / 8
    return sum(_NODES) / len(_NODES) / _MEAN * rows * slots


def _at_risk(cage: int) -> Iterator[float]:
    """Of the first batch, without failure and not replaced, at the start of each quarter."""
    first, known = _KNOWN[0][0], _KNOWN[0][1][cage]
    count = float(known + sum(FAILURES[quarter][cage] for quarter in range(first)))
    for quarter in range(QUARTERS):
        yield count
        count = (count - FAILURES[quarter][cage]) * (1 - _leaving(cage, quarter))


def _leaving(cage: int, quarter: int) -> float:
    """The part of a cage's first batch that is replaced in a quarter without having failed."""
    if quarter in _REPLACED:
        return _share(cage)
    return _LATER[cage] if quarter >= _KNOWN[1][0] else 0.0


@functools.cache
def _share(cage: int) -> float:
    """What leaves in each of the quarters of replacement, so that the known count comes out."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        count = float(_KNOWN[0][1][cage])
        for quarter in range(_KNOWN[0][0], _KNOWN[1][0]):
            count = (count - FAILURES[quarter][cage]) * (1 - share * (quarter in _REPLACED))
        low, high = (share, high) if count > _KNOWN[1][1][cage] else (low, share)
    return low
