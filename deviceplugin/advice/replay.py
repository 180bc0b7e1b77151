"""A history as it would have been with a change, and what that saves; pure."""

import math
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from deviceplugin.advice.idle_state import IdleJudge, works
from deviceplugin.advice.values import Change, Saving, workload_of
from deviceplugin.cost.bill import Bill, Biller, Line
from deviceplugin.cost.history import Cell, Grant, History
from deviceplugin.cost.pieces import Part

ALLOCATED = (Part.USED, Part.IDLE)


class Replay:
    """Bills of a history with changes."""

    def __init__(self, history: History, biller: Biller, judge: IdleJudge) -> None:
        self._history, self._biller, self._judge = history, biller, judge
        self._by_root = history.by_root()
        self._roots: dict[tuple[str, str], set[str]] = {}
        for root, cells in self._by_root.items():
            for grant in {grant for cell in cells for grant in cell.grants}:
                self._roots.setdefault((grant.namespace, workload_of(grant)), set()).add(root)

    def saving(self, change: Change) -> Saving:
        """The bill of the GPUs that the change is about, before it less after it."""
        before = self._history.with_cells(self._touched(change))
        after = self.changed(before, change)
        first, second = self._biller.bill(before), self._biller.bill(after)
        hours = _allocated(first, _hours) - _allocated(second, _hours)
        freed = _allocated(first, _amount) - _allocated(second, _amount)
        return Saving(
            gpu_hours=round(hours, 3),
            freed=0.0 if change.kind == "energy" else round(freed, 2),
            paid_less=round(first.total - second.total, 2),
            kwh=_kwh_less(first, second),
        )

    def changed(self, history: History, change: Change) -> History:
        """The history with the change."""
        if change.kind == "energy":
            return history.with_cells(self._scaled(history, change))
        if change.kind == "share":
            return history.with_cells(self._shared(history, change))
        return history.with_cells(self._released(history, change))

    def _touched(self, change: Change) -> Iterable[Cell]:
        """All cells of the GPUs that the change is about."""
        devices = self._history.devices
        if change.kind == "energy":
            names = {name for name in devices if change.is_on(devices[name])}
            roots = {self._history.root_of(name) for name in names}
        else:
            roots = self._roots.get((change.namespace, change.workload), set())
        for root in sorted(roots & self._by_root.keys()):
            yield from self._by_root[root]

    def _shared(self, history: History, change: Change) -> Iterator[Cell]:
        for cell in history.cells:
            device = history.devices[cell.device]
            grants = tuple(
                replace(grant, share=min(grant.share, change.share))
                if change.is_of(device, grant)
                else grant
                for grant in cell.grants
            )
            yield replace(cell, grants=grants)

    def _released(self, history: History, change: Change) -> Iterator[Cell]:
        idle_s: dict[tuple[str, str, str], float] = {}
        for cell in sorted(history.cells, key=lambda cell: (cell.device, cell.start)):
            device = history.devices[cell.device]
            kept: list[Grant] = []
            for grant in cell.grants:
                key = (cell.device, grant.pod, grant.container)
                before = idle_s.get(key, 0.0)
                idle = change.is_of(device, grant) and self._judge.idle(cell, grant)
                idle_s[key] = before + cell.seconds if idle else 0.0
                if not (idle and before >= change.after_hours * 3600):
                    kept.append(grant)
            yield replace(cell, grants=tuple(kept))

    def _scaled(self, history: History, change: Change) -> Iterator[Cell]:
        for cell in history.cells:
            read = cell.readings
            is_above = (read.power_limit_watts or 0.0) > change.limit_watts
            if not (change.is_on(history.devices[cell.device]) and is_above and works(cell)):
                yield cell
                continue
            energy, power = read.energy_joules, read.power_watts
            scaled = replace(
                read,
                energy_joules=None if energy is None else energy * change.factor,
                power_watts=None if power is None else power * change.factor,
            )
            yield replace(cell, readings=scaled)


def _hours(line: Line) -> float:
    return line.gpu_hours


def _amount(line: Line) -> float:
    return line.amount


def _allocated(bill: Bill, value: Callable[[Line], float]) -> float:
    return math.fsum(value(line) for line in bill.lines if line.part in ALLOCATED)


def _kwh_less(before: Bill, after: Bill) -> float | None:
    first, second = (
        [line.kwh for line in bill.lines if line.kwh is not None] for bill in (before, after)
    )
    less = math.fsum(first) - math.fsum(second)
    return round(less, 3) if first and len(first) == len(before.lines) else None
