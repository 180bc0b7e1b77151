"""The devices of a node by its ResourceSlices, and what claims have of its GPUs; pure."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from deviceplugin.scheduler.asks import Counters
from deviceplugin.scheduler.partitions import MILLI
from deviceplugin.scheduler.published import STANDARD, Kind, Slice, SliceDevice
from deviceplugin.scheduler.quantities import amount
from deviceplugin.scheduler.selectors import Selecting

Pool = tuple[str, str]  # driver and name
MAX_LAYOUTS = 5_000  # that are remembered as ones that may come again
_SLICE = "memory-slice-"  # counters of NVIDIA's sets
# docs/placement.md, costs of a pair: a fabric, one root of PCIe, one NUMA node, two sockets.
LINKED, ROOT, NODE, FAR = 1_500, 32_000, 36_000, 40_000


class SlicedGpu(Struct, frozen=True):
    """What slices tell of a GPU; None and empty are not known."""

    memory_mib: int | None = None
    model: str = ""
    numa_node: int | None = None
    root: str = ""
    group: int | None = None


class Offered(Struct, frozen=True, gc=False):
    """A device: its pool and GPU by position, and its thousandths of the GPU."""

    pool: int
    gpu: int
    milli: int
    device: SliceDevice


class NodeDevices(Struct, frozen=True, eq=False):
    """The devices of all pools in the order in which they are tried, and sets of counters by pool
    and name; nodes of which the same is said have the same one."""

    gpus: tuple[SlicedGpu, ...]
    devices: tuple[Offered, ...]
    counters: Mapping[tuple[int, str], Mapping[str, int]]
    at: Mapping[tuple[int, str], int]  # pool and name
    links: Mapping[tuple[int, int], int]


class Sliced(Struct, frozen=True):
    """The devices of one node, with what is its own: its GPUs' ids and its pools' names."""

    devices: NodeDevices
    ids: tuple[str, ...]
    pools: Mapping[Pool, int]


class Got(Struct, frozen=True, gc=False):
    """A device that a claim has, by position, and how much of one that several can have."""

    device: int
    consumed: Counters = ()


class Claimed(Struct, frozen=True):
    """A node's devices as they are: the positions of their GPUs among those of the node (-1 for one
    of which the daemon tells the parts), and what claims have."""

    devices: NodeDevices
    selecting: Selecting
    at: tuple[int, ...]
    taken: tuple[Got, ...] = ()


class Devices:
    """Makes nodes' devices of their slices; those of like nodes are one value."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[tuple[Slice, ...], NodeDevices]] = {}
        self.milli: dict[Kind, int] = {}  # of every kind that is there

    def of(self, slices: Sequence[Slice]) -> Sliced | None:
        """The devices of a node; of a pool that is being written anew there are none."""
        whole = tuple(_whole_pools(slices))
        if not whole:
            return None
        pools: dict[Pool, int] = {}
        ids: dict[str, int] = {}
        groups: dict[str, int] = {}
        key = []
        for one in whole:
            pool = pools.setdefault((one.driver, one.pool), len(pools))
            gpus = tuple(ids.setdefault(gpu, len(ids)) for gpu in one.gpus)
            linked = tuple(groups.setdefault(g, len(groups)) if g else None for g in one.groups)
            key.append((id(one.content), pool, gpus, linked))
        if (found := self._known.get(tuple(key))) is None:
            self._forget_some()
            made = _made(whole, [one[1:] for one in key])
            self.milli.update({one.device.kind: one.milli for one in made.devices})
            found = self._known[tuple(key)] = (whole, made)  # holds what the key names
        return Sliced(found[1], tuple(ids), pools)

    def _forget_some(self) -> None:
        if len(self._known) >= MAX_LAYOUTS:
            self._known.clear()
            self.milli.clear()


Positions = tuple[int, tuple[int, ...], tuple[int | None, ...]]


def _whole_pools(slices: Sequence[Slice]) -> Iterator[Slice]:
    """The slices of each pool's newest generation, where all of them are there, by name."""
    pools: dict[Pool, list[Slice]] = {}
    for one in slices:
        pools.setdefault((one.driver, one.pool), []).append(one)
    for _, found in sorted(pools.items()):
        newest = max(one.generation for one in found)
        of_newest = [one for one in found if one.generation == newest]
        if len(of_newest) >= of_newest[0].count:
            yield from sorted(of_newest, key=lambda one: one.name)


def _made(slices: Sequence[Slice], positions: Sequence[Positions]) -> NodeDevices:
    counters: dict[tuple[int, str], Mapping[str, int]] = {}
    devices: list[tuple[int, int, SliceDevice]] = []
    groups: dict[int, int] = {}
    for one, (pool, gpus, linked) in zip(slices, positions, strict=True):
        counters |= {(pool, name): dict(amounts) for name, amounts in one.content.counters}
        devices += [(pool, gpus[device.gpu], device) for device in one.content.devices]
        groups |= {g: group for g, group in zip(gpus, linked, strict=True) if group is not None}
    sized = tuple(_sized(devices, counters))
    count = 1 + max((gpu for _, gpu, _ in devices), default=-1)
    told = tuple(_gpu([o for o in sized if o.gpu == n], groups.get(n)) for n in range(count))
    return NodeDevices(
        gpus=told,
        devices=sized,
        counters=counters,
        at={(one.pool, one.device.name): at for at, one in enumerate(sized)},
        links=_links(told),
    )


def _sized(
    devices: Sequence[tuple[int, int, SliceDevice]],
    counters: Mapping[tuple[int, str], Mapping[str, int]],
) -> Iterator[Offered]:
    """A device that takes counters is the part that it takes of them; a part without them is what
    it has of the memory of all parts of its GPU, or one of them."""
    parts: dict[int, list[int]] = {}
    for _, gpu, device in devices:
        if device.kind.is_part and not device.takes:
            parts.setdefault(gpu, []).append(device.kind.memory_mib or 0)
    for pool, gpu, device in devices:
        milli = MILLI
        if device.takes:
            milli = max(_taken_milli(counters.get((pool, s), {}), t) for s, t in device.takes)
        elif device.kind.is_part:
            all_parts, own = parts[gpu], device.kind.memory_mib or 0
            known = all(all_parts)
            milli = MILLI * own // sum(all_parts) if known else MILLI // len(all_parts)
        yield Offered(pool, gpu, milli, device)


def _taken_milli(there: Mapping[str, int], taken: Counters) -> int:
    """By slices of memory, else by memory, where these are counted: engines and processors come
    with it."""
    slices = sum(name.startswith(_SLICE) for name in there)
    own = sum(name.startswith(_SLICE) for name, _ in taken)
    if slices and own:
        return MILLI * own // slices
    parts = {name: MILLI * n // there[name] for name, n in taken if there.get(name)}
    return min(MILLI, parts.get("memory", max(parts.values(), default=MILLI)))


def _gpu(offered: Sequence[Offered], group: int | None) -> SlicedGpu:
    """As its largest device tells."""
    largest = max(offered, key=lambda one: one.milli).device.kind if offered else None
    if largest is None:
        return SlicedGpu()
    numa = largest.plain(f"{STANDARD}/numaNode")
    memory = largest.memory_mib
    return SlicedGpu(
        memory_mib=memory,
        model=largest.model,
        numa_node=numa if isinstance(numa, int) else None,
        root=str(largest.plain(f"{STANDARD}/pcieRoot") or ""),
        group=group,
    )


def _links(gpus: Sequence[SlicedGpu]) -> Mapping[tuple[int, int], int]:
    """The cost of each pair of which something is told."""
    found = {}
    for b, other in enumerate(gpus):
        for a, one in enumerate(gpus[:b]):
            if one.group is not None and one.group == other.group:
                found[a, b] = LINKED
            elif one.root and one.root == other.root:
                found[a, b] = ROOT
            elif one.numa_node is not None and other.numa_node is not None:
                found[a, b] = NODE if one.numa_node == other.numa_node else FAR
    return found


def room_of(devices: NodeDevices, taken: Sequence[Got]) -> tuple[list[int], list[int]]:
    """Thousandths of each GPU that claims can have, those that they have among them, and those
    that they have: what taints keep them off is no room."""
    room, used = [0] * len(devices.gpus), [0] * len(devices.gpus)
    held = {one.device for one in taken}
    for at, one in enumerate(devices.devices):
        if at in held or not one.device.tainted:
            alone = one.device.kind.is_part and not one.device.takes
            room[one.gpu] = min(MILLI, room[one.gpu] + one.milli) if alone else MILLI
    for given in taken:
        offered = devices.devices[given.device]
        used[offered.gpu] += got_milli(offered, given)
    return room, used


def got_milli(offered: Offered, taken: Got) -> int:
    """Thousandths of the GPU that it is, or the part of them that was consumed."""
    kind = offered.device.kind
    if not kind.several or not taken.consumed:
        return offered.milli
    parts = (_part(n, amount(kind.capacity.get(name, ""))) for name, n in taken.consumed)
    return round(offered.milli * max(parts, default=1.0))


def _part(number: int, of: int) -> float:
    return min(1.0, number / of) if of else 1.0
