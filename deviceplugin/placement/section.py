"""The configuration sections `scheduling` and `gpu_nodes`: how devices are chosen on this node."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec

from deviceplugin.model import Device
from deviceplugin.resources.section import Offer, check_size
from deviceplugin.schema import Scheduling, Section, Size, section_of
from deviceplugin.vendor import Sections

_NIC = re.compile(r"[A-Za-z0-9_.-]{1,64}|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class Selector(Section, frozen=True):
    """GPUs that fit all patterns given; a pattern knows `*`, `?` and `[…]` as a shell does."""

    id: str | None = None
    product: str | None = None
    vendor: str | None = None
    pci_address: str | None = None
    numa_node: int | None = None

    def matches(self, device: Device) -> bool:
        """Whether a GPU fits; one without a value fits no pattern for it."""
        if self.numa_node is not None and device.numa_node != self.numa_node:
            return False
        patterns = (
            (self.id, device.id),
            (self.product, device.product),
            (self.vendor, device.vendor),
            (self.pci_address, device.pci_address),
        )
        return all(
            pattern is None or (value is not None and fnmatchcase(value, pattern))
            for pattern, value in patterns
        )


class SchedulingSection(Section, frozen=True):
    """The node's policy, and what single policies need to know.

    `priority` is the order of the policy of that name, `proximity_to` a network interface, an
    RDMA device or a PCI address.
    """

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"preemption": "the cluster's scheduler preempts, by the PriorityClass of pods"}
    )

    policy: str | None = None
    priority: tuple[Selector, ...] | Literal["low", "normal", "high"] = ()
    preemption: bool = False
    proximity_to: str | None = None

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """The order of the policy `priority`: a word of that key is for pods, which their
        PriorityClass orders."""
        return () if isinstance(self.priority, str) else self.priority

    def __post_init__(self) -> None:
        """Check the name where msgspec can still tell the key's path."""
        if self.proximity_to is not None and not _NIC.fullmatch(self.proximity_to):
            raise ValueError(
                "proximity_to: a network interface or RDMA device such as mlx5_0, or a PCI address"
                " such as 0000:3b:00.0"
            )


class GpuNode(Section, frozen=True):
    """What a list of nodes says of one; `scheduling_policy` acts, the rest is compared with what
    is found."""

    name: str
    gpu_type: str | None = None
    gpu_count: int | None = None
    memory_per_gpu: Size | None = None
    scheduling_policy: str | None = None

    def __post_init__(self) -> None:
        """Check the quantities where msgspec can still tell the key's path."""
        if self.gpu_count is not None and self.gpu_count < 0:
            raise ValueError("gpu_count: a whole number from 0")
        check_size("memory_per_gpu", self.memory_per_gpu)


# A list is no struct, but is decoded, checked and shown by the same code.
SECTIONS: Mapping[str, Any] = {
    "scheduling": SchedulingSection,
    "gpu_nodes": tuple[GpuNode, ...] | None,
}


def scheduling_of(sections: Sections) -> SchedulingSection:
    """The section `scheduling`, its defaults where it is not there."""
    return section_of(sections, "scheduling", SchedulingSection)


def node_of(sections: Sections, node_name: str) -> GpuNode | None:
    """What `gpu_nodes` says of this node, the last entry of several."""
    nodes: Any = sections.get("gpu_nodes") or ()  # a tuple of GpuNode, see SECTIONS
    return next((node for node in reversed(nodes) if node.name == node_name), None)


def policies_asked_for(sections: Sections) -> Mapping[str, str]:
    """Every policy that the configuration names, by the path of its key.

    Only keys of our own types name one: a vendor's section may have a key `scheduling` or
    `scheduling_policy` that means something else.
    """
    return {path: name for path, name in _named(sections, "") if name is not None}


# The types of ours that name a policy, and the key in which they do.
_KEYS: Mapping[type, str] = {
    SchedulingSection: "policy",
    Scheduling: "policy",
    GpuNode: "scheduling_policy",
    Offer: "policy",
}


def _named(value: object, path: str) -> Iterator[tuple[str, str | None]]:
    """All policies below a value of the configuration, with the paths of their keys."""
    for kind, key in _KEYS.items():
        if isinstance(value, kind):
            yield f"{path}.{key}", getattr(value, key)
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _named(item, f"{path}[{index}]")
    for key, item in _items(value):
        yield from _named(item, f"{path}.{key}" if path else key)


def _items(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, msgspec.Struct):
        for name, key in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
            yield key, getattr(value, name)
    elif isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
