"""What telemetry is given by the daemon around it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from deviceplugin.model import DeviceID, Inventory, Resource, ResourceName
from deviceplugin.runtime.part import Sectioned
from deviceplugin.vendor import Vendor

# Namespace, pod and container, then the resource and the device of an id that it holds.
Held = tuple[tuple[str, str, str], ResourceName, DeviceID]


class OfHost(Sectioned, Protocol):
    """A configuration that also says where things are."""

    @property
    def host_root(self) -> Path:
        """Where the host's files are seen."""

    @property
    def state_dir(self) -> Path:
        """Where history is kept."""

    @property
    def node_name(self) -> str:
        """The node's name in Kubernetes."""


class Around(Struct, frozen=True, kw_only=True):
    """What telemetry works with; `now` gives Unix seconds.

    `events` counts health events by device, source and code, `resets` those of devices, `listed`
    are the resources as the kubelet has them, `tested` the devices that a test uses.
    """

    now: Callable[[], float]
    vendors: Callable[[], Sequence[Vendor]]
    inventory: Callable[[], Inventory]
    held: Callable[[], Iterable[Held]]
    events: Mapping[tuple[str, str, str], int]
    resets: Mapping[DeviceID, int]
    listed: Callable[[], Mapping[ResourceName, Resource]] = field(default=dict)
    tested: Callable[[], Collection[DeviceID]] = tuple
