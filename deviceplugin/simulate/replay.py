"""One replay: pods arrive one at a time, nothing leaves, what does not fit is dropped; pure."""

import random
from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from deviceplugin.scheduler.board import Board, CostOf
from deviceplugin.scheduler.demand import Demand, Workload
from deviceplugin.scheduler.power import NO_POWER, Power
from deviceplugin.scheduler.room import NodeState
from deviceplugin.simulate.measure import asked_milli, fragment_of, sizes_of


class Point(Struct, frozen=True, kw_only=True):
    """How the cluster stands when `arrived` percent of its GPUs were requested, in percent of its
    GPUs; `refused` counts pods that found no room by then, `watts` is what its GPUs of the models
    that are known draw, None where none is."""

    arrived: int
    allocated: float
    fragmented: float
    refused: int = 0
    watts: float | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a replay; `refused` counts pods, of which the first came when `full` percent of
    the GPUs were requested, None where there was none."""

    points: tuple[Point, ...]
    placed: int
    refused: int
    full: float | None = None

    @property
    def allocated(self) -> float:
        """Percent of the cluster's GPUs that are allocated at the end."""
        return self.points[-1].allocated


class Replay:
    """A cluster that is filled; `seed` is the order in which equal nodes are tried."""

    def __init__(
        self,
        nodes: Iterable[NodeState],
        pods: Sequence[Demand],
        cost_of: CostOf,
        power: Power = NO_POWER,
    ) -> None:
        copies = [structs.replace(n, free=list(n.free), parts=dict(n.parts)) for n in nodes]
        self.board = Board(copies, Workload(pods), cost_of)
        self.capacity_milli = sum(node.free_milli for node in copies)
        self._sizes = sizes_of(copies)
        self._allocated, self._power = 0, power

    def run(self, arriving: Iterable[Demand], seed: int, step: int = 5) -> Outcome:
        """Let the pods arrive; a point each `step` percent, and one at the end."""
        names = list(self.board.nodes)
        random.Random(seed).shuffle(names)  # noqa: S311  # kube-scheduler breaks ties at random
        whole = self.capacity_milli or 1
        full: float | None = None
        points, placed, refused, arrived, due = [], 0, 0, 0, 0
        for demand in arriving:
            arrived += self.asked_milli(demand)
            if self._submit(names, demand):
                placed += 1
            else:
                full = 100 * arrived / whole if full is None else full
                refused += 1
            if arrived * 100 >= due * self.capacity_milli:
                points.append(self._point(arrived, refused))
                due = points[-1].arrived + step
        points.append(self._point(arrived, refused))
        return Outcome(points=tuple(points), placed=placed, refused=refused, full=full)

    def asked_milli(self, demand: Demand) -> int:
        """Thousandths of GPUs, with parts whose size is known."""
        return asked_milli(demand, self._sizes)

    def _submit(self, names: Iterable[str], demand: Demand) -> bool:
        best = self.board.best(names, demand)
        if best is None:
            return False
        name, found = best
        self.board.place(name, demand, found.chosen, found.taken)
        self._allocated += self.asked_milli(demand)
        return True

    def _point(self, arrived: int, refused: int) -> Point:
        whole = self.capacity_milli or 1
        board = self.board
        fragments = (fragment_of(node, board.workload) for node in board.nodes.values())
        return Point(
            arrived=round(100 * arrived / whole),
            allocated=100 * self._allocated / whole,
            fragmented=100 * sum(fragments) / whole,
            refused=refused,
            watts=self._watts(),
        )

    def _watts(self) -> float | None:
        if not self._power.draws:
            return None
        return sum(self._power.drawn(one.model, one.free) for one in self.board.nodes.values())
