"""A GPU's time in pieces in which nothing changes, and who has which part of it in one; pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from msgspec import Struct

from deviceplugin.cost.history import Cell, Device, Grant, History
from deviceplugin.cost.workload import EPSILON, Workload


class Part(StrEnum):
    """What a part of the bill is for: work, what a container has and does not use, what is free
    and too small for anybody, what is free."""

    USED = "used"
    IDLE = "allocated-idle"
    STRANDED = "stranded"
    UNALLOCATED = "unallocated"


class Piece(Struct, frozen=True, kw_only=True, gc=False):
    """A while in which the same cells hold; `start` and `end` in Unix seconds."""

    start: float
    end: float
    cells: tuple[Cell, ...]

    @property
    def hours(self) -> float:
        """How long it is."""
        return (self.end - self.start) / 3600


class Slice(Struct, frozen=True, kw_only=True, gc=False):
    """A part of a GPU: `weight` is 0 to 1 of the whole GPU, `grant` who has it (None: nobody)."""

    device: Device
    part: Part
    weight: float
    grant: Grant | None = None


def midnights(start: float, end: float, zone: ZoneInfo) -> Iterator[float]:
    """Where days begin there; a day has 23 or 25 hours where clocks change."""
    day = datetime.fromtimestamp(start, zone).date()
    while True:
        day += timedelta(days=1)
        at = datetime.combine(day, datetime.min.time(), zone).timestamp()
        if at >= end:
            return
        yield at


def pieces(cells: Sequence[Cell], cuts: Sequence[float]) -> Iterator[Piece]:
    """The time of one GPU and its partitions, cut where a cell begins or ends, and at `cuts`."""
    waiting = sorted(cells, key=lambda cell: cell.start)
    bounds = {moment for cell in cells for moment in (cell.start, cell.end)}
    first, last = min(bounds), max(bounds)
    bounds.update(cuts[bisect_left(cuts, first) : bisect_right(cuts, last)])
    live: list[Cell] = []
    began = 0
    for start, end in pairwise(sorted(bounds)):
        while began < len(waiting) and waiting[began].start <= start:
            live.append(waiting[began])
            began += 1
        live = [cell for cell in live if cell.end > start]
        if live:
            yield Piece(start=start, end=end, cells=tuple(live))


class Divider:
    """Divides a GPU among those who have it; `active_below` is where idle begins."""

    def __init__(self, history: History, active_below: float) -> None:
        self._devices = history.devices
        self._workload = Workload(history)
        self._active_below = active_below

    def slices(self, piece: Piece) -> Iterator[Slice]:
        """The parts of a GPU; their weights are 1 together."""
        rest = 1.0
        for cell, weight in self.weights(piece):
            rest -= weight
            yield from self._of_device(cell, weight)
        if rest > EPSILON:
            yield self._uncut(piece, rest)

    def weights(self, piece: Piece) -> Sequence[tuple[Cell, float]]:
        """The devices that can be had, with the part of the GPU that each is. What is in no
        partition nobody can get, unless somebody has the GPU as well."""
        whole = [cell for cell in piece.cells if not self._devices[cell.device].parent]
        parts = [cell for cell in piece.cells if self._devices[cell.device].parent]
        if not parts:
            return [(cell, 1.0) for cell in whole[:1]]
        found = list(zip(parts, self._weights(parts), strict=True))
        rest = 1.0 - sum(weight for _, weight in found)
        if rest > EPSILON and whole and whole[0].grants:
            found.append((whole[0], rest))
        return found

    def _weights(self, parts: Sequence[Cell]) -> Sequence[float]:
        """By memory where all tell it, else alike; never more than the whole."""
        root = self._devices.get(self._devices[parts[0].device].parent)
        sizes = [self._devices[cell.device].memory_bytes for cell in parts]
        total = root.memory_bytes if root is not None else None
        known = [size for size in sizes if size is not None]
        if not known or len(known) < len(sizes) or not sum(known):
            return [1.0 / len(parts)] * len(parts)
        whole = max(total or 0, sum(known))
        return [size / whole for size in known]

    def _uncut(self, piece: Piece, rest: float) -> Slice:
        parts = [cell.device for cell in piece.cells if self._devices[cell.device].parent]
        first = self._devices[parts[0]]
        device = self._devices.get(first.parent, first)
        return Slice(device=device, part=Part.STRANDED, weight=rest)

    def _of_device(self, cell: Cell, weight: float) -> Iterator[Slice]:
        device = self._devices[cell.device]
        granted = cell.granted
        scale = weight / max(granted, 1.0)
        for grant in cell.grants:
            yield Slice(
                device=device, part=self._part(grant), weight=grant.share * scale, grant=grant
            )
        free = max(0.0, 1.0 - granted)
        if free <= EPSILON:
            return
        lost = free
        if cell.healthy:
            lost = self._workload.stranded((device.model, device.profile), free)
        for part, amount in ((Part.STRANDED, lost), (Part.UNALLOCATED, free - lost)):
            if amount > 0:
                yield Slice(device=device, part=part, weight=amount * weight)

    def _part(self, grant: Grant) -> Part:
        """What is not measured counts as used: it is not known to be idle."""
        idle = grant.active is not None and grant.active < self._active_below
        return Part.IDLE if idle else Part.USED
