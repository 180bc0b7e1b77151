"""What enforcement works with, of the daemon around it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from deviceplugin.model import AdvertisedID, Device, DeviceID, Resource, ResourceName
from deviceplugin.resources.build import Enforced
from deviceplugin.resources.entries import ClaimMemory, Holder, LedgerEntry
from deviceplugin.resources.usage import Usage
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Sectioned

if TYPE_CHECKING:
    from deviceplugin.telemetry.model import TelemetryView


class OfHost(Sectioned, Protocol):
    """A configuration that also says where the host is."""

    @property
    def host_root(self) -> Path:
        """Where its files are."""

    @property
    def state_dir(self) -> Path:
        """Where ours are, at the same path on the host."""


class Counts(Struct):
    """Limits since the daemon's start: set by the runtime, set in a cgroup, containers that were
    refused, and limits that could not be set."""

    by_runtime: int = 0
    by_cgroup: int = 0
    refused: int = 0
    failed: int = 0


class Around(Struct, frozen=True, kw_only=True):
    """`entries`, `usage`, `claims` and `claimants` (who has which claim) are the ledger's, which
    is whole once it has `answered`, `listed` what the kubelet is shown; `hold` takes which slices
    are held to their memory; `view` is None while nothing is measured."""

    devices: Callable[[], Mapping[DeviceID, Device]]
    entries: Callable[[], Mapping[tuple[ResourceName, AdvertisedID], LedgerEntry]]
    answered: Callable[[], bool]
    claims: Callable[[], Sequence[ClaimMemory]]
    claimants: Callable[[], Sequence[tuple[ResourceName, Holder]]]
    usage: Latest[Usage]
    listed: Callable[[], Mapping[ResourceName, Resource]]
    hold: Callable[[Enforced], None]
    shows_pods: Callable[[], bool]
    view: "Callable[[], TelemetryView | None]"
    counts: Counts
    monotonic: Callable[[], float]
