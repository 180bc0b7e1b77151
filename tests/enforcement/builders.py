"""An enforcer with everything around it: devices, a ledger's entries, and what it says holds."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from deviceplugin.enforcement.around import Around, Counts
from deviceplugin.enforcement.cgroups import Tree
from deviceplugin.enforcement.node import Enforcer
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.host import Host
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Health,
    Resource,
    ResourceName,
    Share,
)
from deviceplugin.resources.build import NOT_ENFORCED, Enforced
from deviceplugin.resources.entries import ClaimMemory, Holder, LedgerEntry
from deviceplugin.resources.usage import NOTHING_USED
from deviceplugin.runtime.latest import Latest
from deviceplugin.telemetry.model import TelemetryView
from tests.enforcement.kernel import GIB

MEMORY = ResourceName("amd.com/gpu-memory")
GPU = Device(
    id=DeviceID("0000:c6:00.0"),
    vendor="amd",
    driver="amdgpu",
    pci_address="0000:c6:00.0",
    memory_bytes=16 * GIB,
)
CARD = Device(
    id=DeviceID("0000:03:00.0"),
    vendor="intel",
    driver="xe",
    pci_address="0000:03:00.0",
    memory_bytes=24 * GIB,
)
H100 = Device(
    id=DeviceID("GPU-1"), vendor="nvidia", pci_address="0000:41:00.0", memory_bytes=80 * GIB
)


def share_of(device: Device) -> Share:
    """By the GiB."""
    return Share(count=(device.memory_bytes or 0) // GIB, unit_bytes=GIB)


def slices(name: ResourceName, *devices: Device) -> Resource:
    """A resource of all slices of devices."""
    entries = [
        AdvertisedDevice(
            id=AdvertisedID(f"{device.id}-m{n}"),
            device=device.id,
            health=Health.HEALTHY,
            share=share_of(device),
        )
        for device in devices
        for n in range(share_of(device).count)
    ]
    return Resource(name=name, vendor=devices[0].vendor, devices=tuple(entries))


class World(Struct):
    """What the daemon around an enforcer would be."""

    root: Path
    devices: dict[DeviceID, Device] = field(default_factory=lambda: {GPU.id: GPU, CARD.id: CARD})
    entries: dict[tuple[ResourceName, AdvertisedID], LedgerEntry] = field(default_factory=dict)
    kept: Latest[Enforced] = field(default_factory=lambda: Latest(NOT_ENFORCED))
    view: TelemetryView | None = None
    now_s: float = 0.0
    claims: list[ClaimMemory] = field(default_factory=list)
    claimants: list[tuple[ResourceName, Holder]] = field(default_factory=list)

    def hold(self, enforced: Enforced) -> None:
        """As the planner takes it."""
        self.kept.set(enforced)

    @property
    def enforced(self) -> Enforced:
        """What holds now."""
        return self.kept.value

    def held_by(self, holder: Holder, device: Device, *numbers: int) -> None:
        """A container has slices, as the kubelet lists it."""
        for number in numbers:
            key = (MEMORY, AdvertisedID(f"{device.id}-m{number}"))
            self.entries[key] = LedgerEntry(since_s=0.0, listed=True, holder=holder)

    def listed(self) -> Mapping[ResourceName, Resource]:
        """All slices of all GPUs under one name."""
        return {MEMORY: slices(MEMORY, *self.devices.values())}

    def around(self) -> Around:
        """For an enforcer or its part."""
        return Around(
            devices=lambda: self.devices,
            entries=lambda: self.entries,
            answered=lambda: True,
            claims=lambda: self.claims,
            claimants=lambda: self.claimants,
            usage=Latest(NOTHING_USED),
            listed=self.listed,
            hold=self.hold,
            shows_pods=lambda: True,
            view=lambda: self.view,
            counts=Counts(),
            monotonic=lambda: self.now_s,
        )

    def enforcer(self, section: EnforcementSection, tree: Tree | None = None) -> Enforcer:
        """One that sets limits below `root`."""
        state_dir = self.root / "state"
        return Enforcer(Host(self.root), section, self.around(), tree, state_dir)
