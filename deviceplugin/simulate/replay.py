"""One replay: pods arrive one at a time, nothing leaves, what does not fit is dropped; pure."""

import random
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, structs

from deviceplugin.scheduler.board import Board, CostOf
from deviceplugin.scheduler.demand import WHOLE, Demand, Workload
from deviceplugin.scheduler.partitions import NO_SHAPES
from deviceplugin.scheduler.power import NO_POWER, Power
from deviceplugin.scheduler.room import NodeState


class Point(Struct, frozen=True, kw_only=True):
    """How the cluster stands when `arrived` percent of its GPUs were requested, in percent of its
    GPUs; `watts` is what its GPUs of the models that are known draw, None where none is."""

    arrived: int
    allocated: float
    fragmented: float
    watts: float | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a replay; `refused` counts pods."""

    points: tuple[Point, ...]
    placed: int
    refused: int

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
        self._sizes = {
            name: shape.size * WHOLE // shape.slices
            for node in copies
            for gpu in node.cut.values()
            for name, (shape, _) in gpu.parts.items()
        }
        self._allocated, self._power = 0, power

    def run(self, arriving: Iterable[Demand], seed: int, step: int = 5) -> Outcome:
        """Let the pods arrive; a point each `step` percent, and one at the end."""
        names = list(self.board.nodes)
        random.Random(seed).shuffle(names)  # noqa: S311  # kube-scheduler breaks ties at random
        points, placed, refused, arrived, due = [], 0, 0, 0, 0
        for demand in arriving:
            arrived += self.asked_milli(demand)
            if self._submit(names, demand):
                placed += 1
            else:
                refused += 1
            if arrived * 100 >= due * self.capacity_milli:
                points.append(self._point(arrived))
                due = points[-1].arrived + step
        points.append(self._point(arrived))
        return Outcome(points=tuple(points), placed=placed, refused=refused)

    def asked_milli(self, demand: Demand) -> int:
        """Thousandths of GPUs, with parts whose size is known."""
        parts = sum(self._sizes.get(name, 0) * count for name, count in demand.parts)
        return demand.total_milli + parts

    def _submit(self, names: Iterable[str], demand: Demand) -> bool:
        best = self.board.best(names, demand)
        if best is None:
            return False
        name, found = best
        self.board.place(name, demand, found.chosen, found.taken)
        self._allocated += self.asked_milli(demand)
        return True

    def _point(self, arrived: int) -> Point:
        whole = self.capacity_milli or 1
        return Point(
            arrived=round(100 * arrived / whole),
            allocated=100 * self._allocated / whole,
            fragmented=100 * sum(self._fragments()) / whole,
            watts=self._watts(),
        )

    def _watts(self) -> float | None:
        if not self._power.draws:
            return None
        return sum(self._power.drawn(one.model, one.free) for one in self.board.nodes.values())

    def _fragments(self) -> Iterator[float]:
        for node in self.board.nodes.values():
            free = tuple(sorted(node.free, reverse=True))
            yield self.board.workload.fragment(node.model, node.cpu_milli, free)
            shapes = node.about.shapes if node.about else NO_SHAPES
            for gpu in node.cut.values():
                yield self.board.workload.parts.unusable(gpu, shapes)
