"""Which NUMA nodes a container's devices come from: a small pure model of the topology manager."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from msgspec import Struct

from deviceplugin.testing.devicemanager import SeenDevice


class NotAlignedError(Exception):
    """The policy refuses the container."""


class Demand(Struct, frozen=True, kw_only=True):
    """A number of devices wanted of one resource, from those free, out of all it has."""

    needed: int
    free: tuple[SeenDevice, ...]
    every: tuple[SeenDevice, ...]

    @property
    def has_topology(self) -> bool:
        """Any device with a node makes those without invisible to masks."""
        return any(device.nodes for device in self.every)


def choose_nodes(policy: str, demands: Sequence[Demand]) -> frozenset[int] | None:
    """The smallest set of nodes that serves all demands; None: no preference.

    NotAlignedError: refused by "restricted" (more nodes than an empty machine would need) or by
    "single-numa-node" (more than one node).
    """
    aware = [demand for demand in demands if demand.has_topology]
    if policy == "none" or not aware:
        return None
    chosen = _smallest([(demand.needed, demand.free) for demand in aware])
    if policy == "best-effort":
        return chosen
    ideal = _smallest([(demand.needed, demand.every) for demand in aware])
    allowed = 1 if policy == "single-numa-node" else len(ideal or ())
    if chosen is None or len(chosen) > allowed:
        raise NotAlignedError(f"devices cannot be aligned on NUMA nodes under policy {policy}")
    return chosen


def _smallest(
    wanted: Sequence[tuple[int, tuple[SeenDevice, ...]]],
) -> frozenset[int] | None:
    nodes = sorted({node for _, devices in wanted for device in devices for node in device.nodes})
    masks = (
        frozenset(mask) for size in range(1, len(nodes) + 1) for mask in combinations(nodes, size)
    )
    return next(
        (mask for mask in masks if all(_count(mask, devices) >= n for n, devices in wanted)), None
    )


def _count(mask: frozenset[int], devices: Iterable[SeenDevice]) -> int:
    return sum(not mask.isdisjoint(device.nodes) for device in devices)
