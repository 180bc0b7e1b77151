"""Lays the devices of a node's slices over its GPUs as resources have them; pure.

With the daemon's facts it is known which are the same hardware: by id, and where a driver has
other ids by their order on the bus. Without facts they are taken for others: what the device
plugin and claims have of the same GPU, its daemon takes from the other's list at once.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from deviceplugin.kubernetes.facts import GpuFacts, NodeFacts
from deviceplugin.scheduler.about import About
from deviceplugin.scheduler.devices import MAX_LAYOUTS, Claimed, Got, NodeDevices, Sliced, room_of
from deviceplugin.scheduler.room import NodeState
from deviceplugin.scheduler.selectors import Selecting


def lay(
    state: NodeState, sliced: Sliced, facts: NodeFacts | None, had: tuple[Got, ...], by: Selecting
) -> None:
    """Add the devices to a state that nobody holds anything of; `had` is what claims have."""
    devices = sliced.devices
    if facts is not None and len(state.free) < len(facts.gpus):
        state.free += [0] * (len(facts.gpus) - len(state.free))
    first = len(state.free)
    at = _aligned(sliced.ids, facts) if facts else list(range(first, first + len(devices.gpus)))
    state.free += [0] * (max(at, default=-1) + 1 - first)
    state.claimed = Claimed(devices, by, tuple(-1 if i in state.cut else i for i in at), had)
    room, used = room_of(devices, had)
    reserved = set()
    for gpu, index in enumerate(at):
        if index in state.cut:
            continue
        if not state.free[index]:
            state.free[index] = room[gpu]
            reserved.add(index)
        if used[gpu]:  # else it stays the same object: a million of equal ones are slow to read
            state.free[index] = max(0, state.free[index] - used[gpu])
    state.reserved = frozenset(reserved)
    state.model = state.model or next((one.model for one in devices.gpus if one.model), "")


def _aligned(ids: Sequence[str], facts: NodeFacts) -> list[int]:
    """The position of each GPU among those of the facts, which are in the order of the bus; one
    that is not among them comes after them."""
    known = {gpu.id: index for index, gpu in enumerate(facts.gpus)}
    others = sorted(one for one in ids if one not in known)
    left = [index for index, gpu in enumerate(facts.gpus) if gpu.id not in ids]
    if len(others) != len(left):
        left = list(range(len(facts.gpus), len(facts.gpus) + len(others)))
    known |= dict(zip(others, left, strict=True))
    return [known[one] for one in ids]


def serve(state: NodeState, selectors: tuple[str, ...]) -> None:
    """Whole GPUs that a class takes are given for a resource, too: kube-scheduler makes a claim."""
    claimed = state.claimed
    if claimed is None:
        return
    given = {
        claimed.at[one.gpu]
        for one in claimed.devices.devices
        if not one.device.kind.is_part and claimed.selecting.takes(selectors, one.device.kind)
    }
    state.reserved -= given


class Layout(Struct, frozen=True, eq=False):
    """What nodes have in common whose devices are the same at the same positions; `like` is its
    number, and `gpus`, `links` and `fabric` what slices tell of GPUs."""

    like: int
    devices: NodeDevices
    at: tuple[int, ...]
    reserved: frozenset[int]
    gpus: tuple[GpuFacts, ...]
    links: Mapping[tuple[int, int], int]
    fabric: bool

    def about(self, about: About) -> About:
        """With what slices tell, where the daemon tells nothing."""
        if about.gpus:
            return about
        told = {"gpus": self.gpus, "links": self.links, "fabric": self.fabric}
        return structs.replace(about, measured=False, **told)


class Layouts:
    """Like nodes have one layout, so that thousands of them are few objects."""

    def __init__(self) -> None:
        self._known: dict[object, Layout] = {}
        self._made = 0

    def of(self, state: NodeState) -> Layout | None:
        """The layout of a state, which has it from now on; None where there are no devices."""
        if (claimed := state.claimed) is None:
            return None
        key = (id(claimed.devices), claimed.at, state.reserved)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_LAYOUTS:
                self._known.clear()
            self._made += 1
            found = self._known[key] = _layout(self._made, claimed, state.reserved)
        state.claimed = structs.replace(claimed, at=found.at)
        state.reserved, state.like = found.reserved, found.like
        return found


def _layout(number: int, claimed: Claimed, reserved: frozenset[int]) -> Layout:
    devices, at = claimed.devices, claimed.at
    gpus = [GpuFacts(id="")] * (max(at, default=-1) + 1)
    for one, index in zip(devices.gpus, at, strict=True):
        if index >= 0:
            gpus[index] = GpuFacts(id="", memory_mib=one.memory_mib, numa_node=one.numa_node)
    return Layout(
        like=number,
        devices=devices,
        at=at,
        reserved=reserved,
        gpus=tuple(gpus),
        links={(at[a], at[b]): cost for (a, b), cost in devices.links.items()},
        fabric=all(one.group is not None for one in devices.gpus),
    )
