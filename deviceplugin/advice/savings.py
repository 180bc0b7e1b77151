"""The savings of many changes, in one pass over a history; pure.

Each is what `replay` computes by two bills. A change of what containers have changes no energy and
no price, so that every GPU's time is priced once, and only the while that changes is divided anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from msgspec.structs import replace

from deviceplugin.advice.idle_state import IdleJudge
from deviceplugin.advice.replay import capped, kept
from deviceplugin.advice.values import Change, Saving, workload_of
from deviceplugin.cost.bill import Biller, Charge
from deviceplugin.cost.history import Cell, History
from deviceplugin.cost.pieces import Piece

Place = tuple[str, float]  # a cell's device and start
Who = tuple[str, str]  # namespace and workload


class Savings:
    """Computes savings of one history."""

    def __init__(self, history: History, biller: Biller, judge: IdleJudge) -> None:
        self._history, self._biller, self._judge = history, biller, judge
        self._divider = biller.divider(history)

    def of(self, changes: Sequence[Change]) -> Sequence[Saving]:
        """The saving of each change, in their order."""
        sums = [_Sum() for _ in changes]
        holding: dict[Who, list[int]] = {}
        for number, change in enumerate(changes):
            holding.setdefault((change.namespace, change.workload), []).append(number)
        for gpu in self._gpus():
            about = [n for who in gpu.cells for n in holding.get(who, ())]
            for number in about:
                if changes[number].kind != "energy":
                    self._add_held(sums[number], gpu, changes[number])
            for number, change in enumerate(changes):
                if change.kind == "energy" and self._is_on(gpu, change):
                    self._add_energy(sums[number], gpu, change)
        return [one.saving() for one in sums]

    def _gpus(self) -> Iterator["_Gpu"]:
        for device, group in groupby(self._biller.pieces(self._history), key=lambda one: one[0]):
            pieces = [piece for _, piece in group]
            yield _Gpu(pieces, [self._biller.charge(device, piece) for piece in pieces])

    def _is_on(self, gpu: "_Gpu", change: Change) -> bool:
        return any(change.is_on(self._history.devices[device]) for device in gpu.devices)

    def _add_held(self, total: "_Sum", gpu: "_Gpu", change: Change) -> None:
        total.add(gpu)
        cells = gpu.cells[change.namespace, change.workload]
        after: dict[Place, float] = {}
        for cell, grants in kept(self._history, cells, change, self._judge):
            granted = sum(grant.share for grant in grants)
            if granted < cell.granted:
                after[cell.device, cell.start] = granted
        for number in sorted({number for place in after for number in gpu.at[place]}):
            charge = gpu.charges[number]
            if charge is None:
                continue
            less = self._less(charge.piece, after)
            total.gpu_hours += charge.piece.hours * less
            total.freed += charge.amount * less

    def _less(self, piece: Piece, after: Mapping[Place, float]) -> float:
        """The part of the GPU that is no longer allocated."""
        less = 0.0
        for cell, weight in self._divider.weights(piece):
            granted = after.get((cell.device, cell.start))
            if granted is not None:
                less += weight * (min(1.0, cell.granted) - min(1.0, granted))
        return less

    def _add_energy(self, total: "_Sum", gpu: "_Gpu", change: Change) -> None:
        total.add(gpu)
        devices = self._history.devices
        for charge in filter(None, gpu.charges):
            cells = tuple(capped(cell, devices[cell.device], change) for cell in charge.piece.cells)
            if cells == charge.piece.cells:
                continue
            other = self._biller.charge(charge.device, replace(charge.piece, cells=cells))
            if other is not None:
                total.paid_less += charge.amount - other.amount
                total.kwh += (charge.kwh or 0.0) - (other.kwh or 0.0)


class _Gpu:
    """What one GPU costs, piece by piece, and in which pieces is what."""

    def __init__(self, pieces: Sequence[Piece], charges: Sequence[Charge | None]) -> None:
        self.charges = charges
        self.at: dict[Place, list[int]] = {}
        self.cells: dict[Who, list[Cell]] = {}
        self.devices: set[str] = set()
        for number, piece in enumerate(pieces):
            for cell in piece.cells:
                self._add(cell, number)

    def _add(self, cell: Cell, number: int) -> None:
        numbers = self.at.setdefault((cell.device, cell.start), [])
        numbers.append(number)
        if len(numbers) > 1:
            return
        self.devices.add(cell.device)
        for who in {(grant.namespace, workload_of(grant)) for grant in cell.grants}:
            self.cells.setdefault(who, []).append(cell)


class _Sum:
    """A saving on the way; `seen` are priced whiles, `unmetered` whether one has no energy."""

    def __init__(self) -> None:
        self.gpu_hours = self.freed = self.paid_less = self.kwh = 0.0
        self.seen, self.unmetered = 0, False

    def add(self, gpu: _Gpu) -> None:
        priced = [charge for charge in gpu.charges if charge is not None]
        self.seen += len(priced)
        self.unmetered |= any(charge.kwh is None for charge in priced)

    def saving(self) -> Saving:
        known = self.seen and not self.unmetered
        return Saving.of(self.gpu_hours, self.freed, self.paid_less, self.kwh if known else None)
