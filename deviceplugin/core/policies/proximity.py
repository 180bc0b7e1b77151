"""The policy `proximity`: GPUs near to a NIC, or near to the devices that are taken already."""

from collections.abc import Sequence

from deviceplugin.core.policies.distance import NO_LEVEL, pcie_level
from deviceplugin.core.policies.ranked import Rank, by_rank
from deviceplugin.core.policies.topology import Topology
from deviceplugin.core.policies.view import Counts, View
from deviceplugin.model import DeviceID


def ranks(view: View) -> Sequence[Rank]:
    """The PCIe and NUMA distance to the NIC where one is configured, then to the must-include
    GPUs; without either all are alike."""
    topology, gpus = view.layout.topology, view.layout.gpus
    taken = [gpu for gpu, count in zip(gpus, view.must, strict=True) if count]
    return [
        (topology.nic_level.get(gpu, NO_LEVEL), sum(_level(topology, gpu, t) for t in taken))
        for gpu in gpus
    ]


def _level(topology: Topology, one: DeviceID, other: DeviceID) -> int:
    if one == other:
        return 0
    places = topology.places
    if one not in places or other not in places:
        return NO_LEVEL
    return pcie_level(places[one], places[other])


def choose(view: View) -> Counts:
    """The nearest first."""
    return by_rank(view, ranks(view))
