"""What a pod asks for, and the workload that a cluster expects: values; pure."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from deviceplugin.scheduler.about import NOTHING, Wants
from deviceplugin.scheduler.asks import ClaimAsk
from deviceplugin.scheduler.partitions import MILLI, Expected

WHOLE = MILLI  # thousandths of a GPU
COVERED = 0.95  # of all pods: the commonest kinds that the workload is made of
# How choosy an open GPU is between the pods that would fit, in thousandths of final waste.
SOFTNESS = 100.0
Free = tuple[int, ...]
Asker = TypeVar("Asker")


class Demand(Struct, frozen=True, kw_only=True):
    """A pod's request: `gpu_milli` thousandths on each of `gpus` GPUs of one of `models` (none:
    any), `parts` of GPUs by resource and count, what its `claims` ask for, and what it `wants`
    beyond counts."""

    cpu_milli: int = 0
    memory_mib: int = 0
    gpus: int = 0
    gpu_milli: int = WHOLE
    models: frozenset[str] = frozenset()
    parts: tuple[tuple[str, int], ...] = ()
    wants: Wants = NOTHING
    claims: tuple[ClaimAsk, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether it asks for GPUs or parts of them."""
        return bool(self.gpus or self.parts or self.claims)

    @property
    def total_milli(self) -> int:
        """Thousandths of a GPU in all, without parts that are resources."""
        own = self.gpus * self.gpu_milli
        return own + sum(one.gpus * one.milli for one in self.claims) if self.claims else own

    @property
    def size(self) -> tuple[int, int]:
        """A number of GPUs, and thousandths of each, with what its claims ask for."""
        if not self.claims:
            return self.gpus, self.gpu_milli
        sizes = {one.milli for one in self.claims} | ({self.gpu_milli} if self.gpus else set())
        if len(sizes) == 1:
            return self.gpus + sum(one.gpus for one in self.claims), sizes.pop()
        return math.ceil(self.total_milli / WHOLE), WHOLE


class Kind(Struct, frozen=True):
    """One kind of pod of the workload, with its share of all pods."""

    cpu_milli: int
    gpus: int
    gpu_milli: int
    share: float


class Workload:
    """Which pods a cluster expects; what a state of a node is worth to them.

    Nothing is learned here: it is counted from pods that were, and is replaced as a whole.
    """

    def __init__(self, demands: Sequence[Demand]) -> None:
        kinds = _commonest(demands)
        self._kinds = kinds
        self._of_model: dict[str, tuple[Sequence[Kind], Sequence[int]]] = {}
        self.parts = Expected(_shares(demands))
        self.waste = _final_waste(demands)
        self.cpu_per_gpu = _cpu_per_gpu(demands)
        self._known: dict[tuple[str, int, Free], float] = {}

    @property
    def expects(self) -> bool:
        """Whether pods with GPUs or parts of them are among the expected ones."""
        return bool(self.cpu_per_gpu or self.parts.some)

    def fragment(self, model: str, cpu_milli: int, free: Free) -> float:
        """Free thousandths that the workload's pods are expected not to use (FGD, ATC 2023, 3).

        `free` is in descending order.
        """
        kinds, steps = self._usable_by(model)
        key = (model, bisect_right(steps, cpu_milli), free)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= 500_000:
                self._known.clear()
            found = self._known[key] = _fragment(kinds, cpu_milli, free)
        return found

    def _usable_by(self, model: str) -> tuple[Sequence[Kind], Sequence[int]]:
        found = self._of_model.get(model)
        if found is None:
            kinds = [
                Kind(kind.cpu_milli, kind.gpus, kind.gpu_milli, share)
                for kind, share in self._kinds
                if kind.gpus and (not kind.models or model in kind.models)
            ]
            found = self._of_model[model] = (kinds, sorted({kind.cpu_milli for kind in kinds}))
        return found

    def stranded(self, cpu_milli: int, free_milli: int) -> float:
        """Free thousandths for which the node's CPUs will not suffice.

        Judged twice, by the CPUs that pods with GPUs take beside a GPU, and by those of all pods:
        pods without GPUs take their part of each node's CPUs.
        """
        return sum(
            max(0.0, free_milli - cpu_milli / ratio) for ratio in self.cpu_per_gpu if ratio > 0
        )


def _commonest(demands: Sequence[Demand]) -> Sequence[tuple[Demand, float]]:
    """The commonest kinds that together are COVERED of all pods, with their shares."""
    counted = Counter(
        Demand(cpu_milli=d.cpu_milli, gpus=d.size[0], gpu_milli=d.size[1], models=d.models)
        for d in demands
    )
    chosen, total = [], 0
    for kind, count in sorted(counted.items(), key=lambda item: (-item[1], _order(item[0]))):
        if total >= COVERED * len(demands):
            break
        chosen.append((kind, count))
        total += count
    return [(kind, count / total) for kind, count in chosen]


def _shares(demands: Iterable[Demand]) -> Mapping[str, float]:
    """Of each resource its share of all parts that are asked for."""
    counted: Counter[str] = Counter()
    for demand in demands:
        for name, count in demand.parts:
            counted[name] += count
    total = counted.total()
    return {name: count / total for name, count in sorted(counted.items())}


def _order(kind: Demand) -> tuple[int, int, int, Sequence[str]]:
    return kind.cpu_milli, kind.gpus, kind.gpu_milli, sorted(kind.models)


def _fragment(kinds: Sequence[Kind], cpu_milli: int, free: Free) -> float:
    total = sum(free)
    usable = 0.0
    for kind in kinds:
        if kind.cpu_milli > cpu_milli:
            continue
        fitting = [milli for milli in free if milli >= kind.gpu_milli]
        if len(fitting) >= kind.gpus:
            usable += kind.share * sum(fitting)
    return total - usable


def _final_waste(demands: Iterable[Demand]) -> Sequence[float]:
    """For each number of free thousandths of a GPU, how much of it will be left in the end.

    A gap in which nothing fits is lost. Any other takes one of the pods that fit, each as often as
    it comes, and rather those that leave less in the end.
    """
    sizes = Counter(d.size[1] for d in demands if d.size[0] == 1 and d.size[1] < WHOLE)
    waste: list[float] = []
    for gap in range(WHOLE + 1):
        fitting = [(size, count) for size, count in sizes.items() if size <= gap]
        waste.append(_expected(fitting, gap, waste) if fitting else float(gap))
    return waste


def _expected(fitting: Iterable[tuple[int, int]], gap: int, waste: Sequence[float]) -> float:
    left = [(count, waste[gap - size]) for size, count in fitting]
    least = min(after for _, after in left)
    weights = [count * math.exp((least - after) / SOFTNESS) for count, after in left]
    return sum(w * after for w, (_, after) in zip(weights, left, strict=True)) / sum(weights)


def _cpu_per_gpu(demands: Iterable[Demand]) -> Sequence[float]:
    """Thousandths of a CPU for each of a GPU: of the pods with GPUs, and of all pods."""
    with_gpu = without = gpu = 0
    for demand in demands:
        gpu += demand.total_milli
        with_gpu += demand.cpu_milli if demand.total_milli else 0
        without += 0 if demand.total_milli else demand.cpu_milli
    return (with_gpu / gpu, (with_gpu + without) / gpu) if gpu else ()


def models_of(text: str) -> frozenset[str]:
    """The models of a list joined by `|`; empty is any."""
    return frozenset(filter(None, text.split("|")))


def as_document(demand: Demand) -> Mapping[str, object]:
    """The demand as it is printed."""
    return {
        "cpu_milli": demand.cpu_milli,
        "memory_mib": demand.memory_mib,
        "gpus": demand.gpus,
        "gpu_milli": demand.gpu_milli,
        "models": sorted(demand.models),
        "partitions": dict(demand.parts),
        "claims": [{"gpus": one.gpus, "gpu_milli": one.milli} for one in demand.claims],
    }


def demands_of(demand_of: Callable[[Asker], Demand], pods: Iterable[Asker]) -> list[Demand]:
    """The demands of those of the pods that can be read."""
    demands = []
    for pod in pods:
        try:
            demands.append(demand_of(pod))
        except ValueError:
            continue
    return demands
