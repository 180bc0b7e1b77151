"""What pods hold of GPUs, and what is kept from them while a GPU is cut.

What is kept stands in the ledger, as what claims hold does: no Allocate and no claim gets it from
the same step on the loop on, and it is listed Unhealthy. A GPU in a drain has a fault instead: what
pods have of it they keep.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, ResourceName
from deviceplugin.provision.values import Held
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.usage import RESERVED
from deviceplugin.vendor.partitions import PartitionedGpu, Step

KEPT = ResourceName("partitioning")
SOURCE = "deviceplugin.partitions"
CODE = "draining"


class Holds:
    """The devices of each GPU, and what of them is kept; used on the loop."""

    def __init__(self, store: InventoryStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger
        self._kept: dict[str, tuple[DeviceID, ...]] = {}
        self._known: dict[DeviceID, Device] = {}

    def whole(self, gpu: str) -> Device | None:
        """The device of a GPU's id or address, which is no part of another."""
        for device in self._store.current.devices.values():
            if device.parent is None and gpu in (device.id, device.pci_address):
                return device
        return None

    def devices(self, names: Collection[str]) -> list[DeviceID]:
        """All that is offered of GPUs, themselves included, by their ids or addresses."""
        found, names = self._store.current.devices.values(), {*names}
        wholes = names | {one.id for one in found if names & {one.id, one.pci_address}}
        return [one.id for one in found if one.id in wholes or one.parent in wholes]

    def holders(self) -> Mapping[DeviceID, str]:
        """Who holds each device: a pod where it is known, else the name of the resource."""
        named = {d: f"{pod[0]}/{pod[1]}" for pod, _, d in self._ledger.held()}
        usage = self._ledger.usage.value
        found = {}
        for device, forms in usage.held.items():
            others = sorted(str(name) for name, _ in forms if name not in (KEPT, RESERVED))
            if others:
                found[device] = named.get(device, others[0])
        return found

    def held(self) -> Iterable[Held]:
        """Each held device with its GPU; one that is gone from the inventory as it was known."""
        devices, holders = self._store.current.devices, self.holders()
        self._known = {d: one for d, one in self._known.items() if d in holders} | dict(devices)
        for device, holder in sorted(holders.items()):
            known = self._known.get(device)
            if known is not None:
                yield Held(gpu=_root(known, self._known), device=device, holder=holder)

    def take(self, gpu: PartitionedGpu, devices: Sequence[str], whole: Collection[str]) -> str:
        """Keep these devices, or all of these GPUs; who holds one of them, empty for nobody.

        Nothing waits between the look and the keeping: of two that want it one comes first.
        """
        wanted = self.devices(whole) if whole else [DeviceID(one) for one in devices]
        holders = self.holders()
        for device in wanted:
            if device in holders:
                return holders[device]
        self.keep(gpu.id, wanted)
        return ""

    def keep(self, gpu: str, devices: Iterable[DeviceID]) -> None:
        """Give these devices to nobody."""
        self._kept[gpu] = tuple(devices)
        self._publish()

    def release(self, gpu: str) -> None:
        """Give what there is of the GPU now."""
        self._kept.pop(gpu, None)
        self._publish()

    def keep_only(self, gpus: Collection[str]) -> None:
        """Release the others."""
        if self._kept.keys() - gpus:
            self._kept = {gpu: kept for gpu, kept in self._kept.items() if gpu in gpus}
            self._publish()

    def drain(self, gpus: Iterable[PartitionedGpu]) -> None:
        """List what nobody holds of these GPUs, and only of them, Unhealthy."""
        holders = self.holders()
        free = [d for gpu in gpus for d in self.devices({gpu.id, gpu.address}) if d not in holders]
        parents = {one.parent for one in self._store.current.devices.values() if one.id in holders}
        self._store.set_faults(
            SOURCE,
            [
                Fault(
                    device=device,
                    source=SOURCE,
                    code=CODE,
                    reason="no pod gets it until the GPU is cut as declared",
                    action="none: see deviceplugin provision --status",
                    kind=FaultClass.SETUP,
                )
                for device in free
                if device not in parents  # its parts are held, and would fall with it
            ],
        )

    def _publish(self) -> None:
        kept = {device: (KEPT,) for devices in self._kept.values() for device in devices}
        self._ledger.claim(SOURCE, kept)


def held_now(holds: Holds) -> tuple[Held, ...]:
    """What is held, as the privileged process is told."""
    return tuple(holds.held())


def kept_ids(begun: Sequence[Step]) -> list[DeviceID]:
    """The GPUs of a change, as far as they are devices by the same id."""
    return [DeviceID(gpu) for gpu in sorted(frozenset().union(*(step.gpus for step in begun)))]


def _root(device: Device, known: Mapping[DeviceID, Device]) -> str:
    """The GPU's address where it has one of its own: ids differ between rooms, addresses do not."""
    parent = known.get(device.parent) if device.parent is not None else device
    if parent is None:
        return str(device.parent)
    return parent.pci_address or parent.id
