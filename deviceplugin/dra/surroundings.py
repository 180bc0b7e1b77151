"""What claims are prepared with, and what comes of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.dra.claims import ClaimRef, Told, nobody
from deviceplugin.dra.partitions import Placement
from deviceplugin.dra.shares import Shares
from deviceplugin.model import ContainerEdits, Device, DeviceID
from deviceplugin.provision.on_demand import Fitted
from deviceplugin.vendor.partitions import PartitionedGpu

# The claim's document, None where there is no such object; raises ClaimError where nobody says.
ReadClaim = Callable[[ClaimRef], Awaitable[Mapping[str, Any] | None]]


async def unlimited(_: str, edits: ContainerEdits) -> ContainerEdits:
    """Nothing holds anybody."""
    return edits


class Node(Struct, frozen=True, kw_only=True):
    """What claims are prepared with; `devices` are all of the node, `names` those of the driver,
    `shared` says how several claims can have one. `places` are what can be made on `gpus`, by the
    names of devices, `ours` says whether a partition was made so, and `fit` has a GPU cut as the
    claims ask, by a process that says what is there then; one that is `left` nobody cuts for them.

    `limited` adds to the edits of a claim, by its uid, what holds its containers to its memory.
    `know_holders` raises ClaimError while nobody can say what pods have by the device plugin;
    `now` are seconds that only grow.
    """

    driver: str
    pool: str
    devices: Callable[[], Mapping[DeviceID, Device]]
    names: Callable[[], Mapping[str, Device]]
    shared: Callable[[Device], Shares | None]
    places: Callable[[], Mapping[str, Placement]]
    gpus: Callable[[], Mapping[DeviceID, PartitionedGpu]]
    ours: Callable[[Device], bool]
    fit: Callable[[DeviceID], Awaitable[Fitted]]
    left: Callable[[DeviceID], bool]
    edits: Callable[[Device], Awaitable[tuple[Any, Any]]]
    read_claim: ReadClaim
    know_holders: Callable[[], Awaitable[None]]
    now: Callable[[], float]
    told: Told = nobody
    limited: Callable[[str, ContainerEdits], Awaitable[ContainerEdits]] = unlimited

    def tell(self, what: str, ref: ClaimRef, devices: Sequence[str], **more: str) -> None:
        """What became of a claim, for whoever records it."""
        who = {"namespace": ref.namespace, "claim": ref.name, "uid": ref.uid, **more}
        self.told(what, who, devices)


class PreparedDevice(Struct, frozen=True, kw_only=True):
    """A device as the kubelet is told of it."""

    request: str
    pool: str
    name: str
    cdi_id: str
    share_id: str | None = None
