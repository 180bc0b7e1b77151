"""What a node's daemon tells the cluster's scheduler of its GPUs, as an annotation of the node: the
value, written and read; pure.

It is small and rarely changes: a Node is written to etcd and sent to everybody who watches nodes.
So load and temperature are rounded, and pods are named by a hash.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct, field

from deviceplugin.model import DeviceID, ResourceName

ANNOTATION = "deviceplugin/gpus"
VERSION = 1
MAX_BYTES = 64 << 10  # all annotations of an object together may have 256 KiB
MAX_GPUS = 256
MAX_SLICES = 64
MAX_PARTS = 4096  # of all GPUs: each is looked at for each part that a pod asks for

_SHORT = {
    "id": "i",
    "memory_mib": "m",
    "healthy": "h",
    "warned": "w",
    "numa_node": "n",
    "nic_level": "c",
    "load": "u",
    "celsius": "t",
    "isolation": "s",
    "offers": "o",
    "slices": "l",
    "even": "e",
    "parts": "p",
}


class PartFacts(Struct, frozen=True, gc=False, array_like=True):
    """The parts of one resource on a GPU: how many slices each takes, where such parts can start,
    and where those start that are free, held, and neither, as they are ill; what each has of memory
    and promises of isolation (None is not known), of parts that differ the least."""

    size: int
    starts: tuple[int, ...]
    free: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    ill: tuple[int, ...] = ()
    memory_mib: int | None = None
    isolation: str | None = None

    def is_within(self, slices: int) -> bool:
        """Whether it can be on a GPU of so many slices."""
        places = (*self.starts, *self.free, *self.held, *self.ill)
        return 0 < self.size <= slices and all(0 <= at <= slices - self.size for at in places)


class GpuFacts(Struct, frozen=True, omit_defaults=True, gc=False, rename=_SHORT):
    """One physical GPU. What is not known is None.

    `healthy` is that a pod may be given it, `warned` that it has a fault which does not take it
    away, `nic_level` the PCIe level of its way to the NIC, `load` tenths of its time in use,
    `celsius` its temperature to the nearest ten, `offers` how many ids of each resource it gives.
    `parts` are those of a GPU that is cut, by resource, in so many `slices`; where the division is
    `even`, parts of another size cannot be beside them.
    """

    id: str
    memory_mib: int | None = None
    healthy: bool = True
    warned: bool = False
    numa_node: int | None = None
    nic_level: int | None = None
    load: int | None = None
    celsius: int | None = None
    isolation: str | None = None
    offers: dict[str, int] = field(default_factory=dict)
    slices: int | None = None
    even: bool = False
    parts: dict[str, PartFacts] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether its parts can be on it."""
        slices = self.slices or 0
        return slices <= MAX_SLICES and all(one.is_within(slices) for one in self.parts.values())


class NodeFacts(Struct, frozen=True, omit_defaults=True):
    """All GPUs of a node in PCI order; `links` has the cost of each pair of positions that is known
    (docs/placement.md), `held` the positions of the GPUs of each pod by its hash."""

    version: int = 0
    gpus: tuple[GpuFacts, ...] = ()
    links: tuple[tuple[int, int, int], ...] = ()
    held: dict[str, tuple[int, ...]] = field(default_factory=dict)


def pod_hash(namespace: str, name: str) -> str:
    """What a pod is called in the annotation: who may read nodes may not always read pods."""
    text = f"{namespace}/{name}".encode()
    return hashlib.blake2s(text, digest_size=6).hexdigest()


def written(facts: NodeFacts) -> str:
    """The annotation's text; the same facts are the same text. What is too long loses first the
    links and then the pods, which the scheduler can do without."""
    sorted_held = dict(sorted(facts.held.items()))
    full = msgspec.structs.replace(facts, version=VERSION, held=sorted_held)
    for tried in (
        full,
        msgspec.structs.replace(full, links=()),
        msgspec.structs.replace(full, links=(), held={}),
    ):
        text = msgspec.json.encode(tried)
        if len(text) <= MAX_BYTES:
            return text.decode()
    return msgspec.json.encode(NodeFacts(version=VERSION)).decode()


def read(text: str) -> NodeFacts | None:
    """The facts of an annotation; None for what is none, or is of a version that is not known."""
    try:
        facts = _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    count = len(facts.gpus)
    positions = {p for pair in facts.links for p in pair[:2]}
    positions |= {p for held in facts.held.values() for p in held}
    if facts.version != VERSION or not 0 < count <= MAX_GPUS:
        return None
    sound = all(0 <= p < count for p in positions) and all(gpu.is_sound for gpu in facts.gpus)
    sound = (
        sound and sum(len(p.free) for gpu in facts.gpus for p in gpu.parts.values()) <= MAX_PARTS
    )
    return facts if sound else None


def held_of(
    held: Iterable[tuple[tuple[str, str, str], ResourceName, DeviceID]],
    position: Mapping[DeviceID, int],
) -> dict[str, tuple[int, ...]]:
    """The positions of each pod's GPUs, of (namespace, pod, container), resource, device;
    `position` is that of every device's GPU."""
    found: dict[str, set[int]] = {}
    for (namespace, pod, _), _, device in held:
        if device in position:
            found.setdefault(pod_hash(namespace, pod), set()).add(position[device])
    return {pod: tuple(sorted(positions)) for pod, positions in found.items()}


_decoder = msgspec.json.Decoder(NodeFacts)
