"""What is known of a node beyond its counts, and what a pod wants beyond them; pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.kubernetes.facts import GpuFacts
from deviceplugin.model import Isolation
from deviceplugin.scheduler.partitions import NO_SHAPES, Shapes

UNKNOWN_LINK = 100_000  # docs/placement.md: the cost of a pair of which nothing is known
FABRIC_BELOW = 20_000  # a pair that costs less has a link of its own, not PCIe alone
_STRENGTH = {one.value: one.strength for one in Isolation}
Policy = str


class Wants(Struct, frozen=True, kw_only=True):
    """What a pod asks of its GPUs and of their node.

    `capability` is a compute capability in tenths, `linked` that all its GPUs have links to each
    other, `near_nic` that they should be near the NIC, `domain` the link domain of the pods it
    belongs to, `idle` that nobody else should be on its GPU. `required` and `forbidden` are apps
    that must, or must not, be on the node. `favoured` pods may use what is kept for such.
    """

    memory_mib: int = 0
    capability: int = 0
    isolation: str = ""
    linked: bool = False
    near_nic: bool = False
    idle: bool = False
    favoured: bool = False
    domain: str = ""
    domain_required: bool = False
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()


NOTHING = Wants()


class About(Struct, frozen=True, kw_only=True):
    """A node beyond its counts; without `gpus` nothing is told of them.

    `measured` is that what changes is told too: load, temperature, warnings; `fabric` that it is
    told which GPUs have links beyond PCIe.
    `shapes` are the parts that there can be of GPUs of its model, `memory_mib` and `capability`
    what its labels say of a GPU, `domain` its link domain, `apps` whose pods are there, `policy`
    how `gpu_nodes` wants it to be used.
    """

    gpus: tuple[GpuFacts, ...] = ()
    measured: bool = True
    fabric: bool = True
    links: Mapping[tuple[int, int], int] = field(default_factory=lambda: MappingProxyType({}))
    shapes: Shapes = NO_SHAPES
    memory_mib: int | None = None
    capability: int | None = None
    domain: str = ""
    apps: frozenset[str] = frozenset()
    policy: Policy = ""

    @property
    def is_plain(self) -> bool:
        """Whether it adds nothing to the cost of a pod that wants nothing."""
        return not (self.gpus and self.measured) and not self.policy

    def link(self, one: int, other: int) -> int:
        """The cost of a pair of GPUs."""
        return self.links.get((min(one, other), max(one, other)), UNKNOWN_LINK)

    def suits(self, index: int, wants: Wants) -> bool:
        """Whether a GPU is what is wanted; what is not known does not stand in the way."""
        gpu = self.gpus[index] if index < len(self.gpus) else None
        memory = gpu.memory_mib if gpu and gpu.memory_mib is not None else self.memory_mib
        return _is_enough(memory, gpu.isolation if gpu else None, wants)

    def held_of(self, index: int, resource: str) -> int:
        """How many parts of a resource on a GPU the daemon says are held."""
        part = self.gpus[index].parts.get(resource) if index < len(self.gpus) else None
        return len(part.held) if part else 0

    def suits_part(self, index: int, resource: str, wants: Wants) -> bool:
        """Whether the parts of a resource on a GPU are what is wanted; no part has more memory than
        its GPU."""
        gpu = self.gpus[index] if index < len(self.gpus) else None
        part = gpu.parts.get(resource) if gpu else None
        if gpu is None or part is None:
            return True
        memory = gpu.memory_mib if part.memory_mib is None else part.memory_mib
        return _is_enough(memory, part.isolation or gpu.isolation, wants)


def _is_enough(memory_mib: int | None, isolation: str | None, wants: Wants) -> bool:
    if wants.memory_mib and memory_mib is not None and memory_mib < wants.memory_mib:
        return False
    if not wants.isolation or isolation is None:
        return True
    return _STRENGTH.get(isolation, 0) >= _STRENGTH.get(wants.isolation, 0)


def lacking(about: About, wants: Wants) -> str:
    """What the node as a whole lacks; empty if nothing."""
    if wants.capability and about.capability is not None and about.capability < wants.capability:
        found, wanted = about.capability / 10, wants.capability / 10
        return f"compute capability {found:g}, {wanted:g} requested"
    if wants.domain_required and wants.domain and about.domain != wants.domain:
        return f"link domain {about.domain or 'unknown'}, the pod's group is in {wants.domain}"
    if missing := sorted(wants.required - about.apps):
        return f"no pod of {', '.join(missing)} here, which the pod wants beside it"
    if others := sorted(wants.forbidden & about.apps):
        return f"pods of {', '.join(others)} are here, which the pod forbids"
    return ""


def nearest(about: About, fitting: Sequence[int], count: int) -> tuple[int, ...]:
    """So many of the GPUs with the least cost between them: from each GPU the nearest others, the
    best of these sets."""
    best: tuple[int, tuple[int, ...]] | None = None
    for start in fitting:
        others = sorted((i for i in fitting if i != start), key=lambda i: about.link(start, i))
        chosen = tuple(sorted((start, *others[: count - 1])))
        cost = _between(about, chosen)
        if best is None or cost < best[0]:
            best = (cost, chosen)
    return best[1] if best else ()


def _between(about: About, chosen: Sequence[int]) -> int:
    return sum(about.link(a, b) for at, a in enumerate(chosen) for b in chosen[at + 1 :])


def are_linked(about: About, chosen: Sequence[int]) -> bool:
    """Whether each pair has a link of its own; so where nothing is known of any."""
    if not about.gpus or not about.links or not about.fabric:
        return True
    return all(
        about.link(a, b) < FABRIC_BELOW for at, a in enumerate(chosen) for b in chosen[at + 1 :]
    )
