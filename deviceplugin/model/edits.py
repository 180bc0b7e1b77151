"""What a container gets, in the shape of the Container Device Interface; no behaviour.

Everything here is of the public module `deviceplugin.model`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field

NOTHING: Mapping[str, str] = MappingProxyType({})


def frozen(mapping: Mapping[str, str]) -> Mapping[str, str]:
    """A read-only copy of `mapping` in key order, so that equal content has equal bytes."""
    return MappingProxyType(dict(sorted(mapping.items())))


class DeviceNode(Struct, frozen=True, kw_only=True, gc=False):
    """A device node for a container; `host_path` is the node on the host."""

    path: str
    host_path: str
    permissions: str = "rw"


class Mount(Struct, frozen=True, kw_only=True, gc=False):
    """A bind mount from the host into a container."""

    path: str
    host_path: str
    read_only: bool = True


class Hook(Struct, frozen=True, kw_only=True, gc=False):
    """An OCI hook of a CDI file: a program on the host that the container runtime runs."""

    name: str
    path: str
    args: tuple[str, ...] = ()


class ContainerEdits(Struct, frozen=True, kw_only=True):
    """What a container gets, in the shape of the Container Device Interface (CDI).

    The only thing that vendors and front ends exchange: the device plugin API, CDI files and
    DRA all speak from it.
    """

    env: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    cdi_devices: tuple[str, ...] = ()


class CdiSpec(Struct, frozen=True, kw_only=True):
    """One CDI file: `kind` is vendor/class, `devices` maps a device name to its edits."""

    kind: str
    devices: Mapping[str, ContainerEdits]
    common: ContainerEdits = field(default_factory=ContainerEdits)
