"""A history as it would have been with a change, and what that saves; pure.

This is a saving's definition, computed as it reads: two bills of whole GPUs. `savings` computes
many at once.
"""

import math
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from deviceplugin.advice.idle_state import IdleJudge, works
from deviceplugin.advice.values import Change, Saving, workload_of
from deviceplugin.cost.bill import Bill, Biller, Line
from deviceplugin.cost.history import Cell, Device, Grant, History
from deviceplugin.cost.pieces import Part

ALLOCATED = (Part.USED, Part.IDLE)


class Replay:
    """Bills of a history with changes."""

    def __init__(self, history: History, biller: Biller, judge: IdleJudge) -> None:
        self._history, self._biller, self._judge = history, biller, judge

    def saving(self, change: Change) -> Saving:
        """The bill of the GPUs that the change is about, before it less after it."""
        before = self._history.with_cells(self._touched(change))
        after = self.changed(before, change)
        first, second = self._biller.bill(before), self._biller.bill(after)
        hours = _allocated(first, _hours) - _allocated(second, _hours)
        freed = _allocated(first, _amount) - _allocated(second, _amount)
        paid_less = first.total - second.total
        is_energy = change.kind == "energy"
        return Saving.of(hours, 0.0 if is_energy else freed, paid_less, _kwh_less(first, second))

    def changed(self, history: History, change: Change) -> History:
        """The history with the change."""
        cells = sorted(history.cells, key=lambda cell: (cell.device, cell.start))
        if change.kind == "energy":
            devices = history.devices
            return history.with_cells(capped(cell, devices[cell.device], change) for cell in cells)
        found = kept(history, cells, change, self._judge)
        return history.with_cells(replace(cell, grants=grants) for cell, grants in found)

    def _touched(self, change: Change) -> Iterable[Cell]:
        """All cells of the GPUs that the change is about."""
        for cells in self._history.by_root().values():
            if any(self._is_about(cell, change) for cell in cells):
                yield from cells

    def _is_about(self, cell: Cell, change: Change) -> bool:
        if change.kind == "energy":
            return change.is_on(self._history.devices[cell.device])
        who = (change.namespace, change.workload)
        return any((grant.namespace, workload_of(grant)) == who for grant in cell.grants)


def kept(
    history: History, cells: Iterable[Cell], change: Change, judge: IdleJudge
) -> Iterator[tuple[Cell, tuple[Grant, ...]]]:
    """What containers would have had of each cell; cells come by device and start."""
    idle_s: dict[tuple[str, str, str, str], float] = {}
    for cell in cells:
        device = history.devices[cell.device]
        if change.kind == "share":
            yield cell, tuple(_shared(grant, device, change) for grant in cell.grants)
            continue
        own: list[Grant] = []
        for grant in cell.grants:
            key = (cell.device, grant.namespace, grant.pod, grant.container)
            before = idle_s.get(key, 0.0)
            idle = change.is_of(device, grant) and judge.idle(cell, grant)
            idle_s[key] = before + cell.seconds if idle else 0.0
            if not (idle and before >= change.after_hours * 3600):
                own.append(grant)
        yield cell, tuple(own)


def _shared(grant: Grant, device: Device, change: Change) -> Grant:
    if grant.share <= change.share or not change.is_of(device, grant):
        return grant
    return replace(grant, share=change.share)


def capped(cell: Cell, device: Device, change: Change) -> Cell:
    """What a cell would have taken under another limit of power."""
    read = cell.readings
    is_above = (read.power_limit_watts or 0.0) > change.limit_watts
    if not (is_above and change.is_on(device) and works(cell)):
        return cell
    energy, power = read.energy_joules, read.power_watts
    scaled = replace(
        read,
        energy_joules=None if energy is None else energy * change.factor,
        power_watts=None if power is None else power * change.factor,
    )
    return replace(cell, readings=scaled)


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
    return less if first and len(first) == len(before.lines) else None
