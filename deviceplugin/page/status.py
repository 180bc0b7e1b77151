"""The status document made of what the daemon knows; pure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from msgspec import Struct, field

from deviceplugin.health.report import Held, Listed
from deviceplugin.inventory.conditions import condition_of
from deviceplugin.model import Device, DeviceID, Health, Inventory, LinkKind
from deviceplugin.page.model import (
    AlertStatus,
    DeviceStatus,
    FaultStatus,
    HolderStatus,
    LinkStatus,
    Measured,
    ResourceStatus,
    Status,
    Trend,
    VendorDocument,
)
from deviceplugin.placement.topology import Place, distance
from deviceplugin.telemetry.model import DeviceView, TelemetryView

MAX_LINKED = 64  # GPUs between which links are told: no node has more
Trends = Mapping[DeviceID, tuple[Trend, ...]]


class Known(Struct, frozen=True, kw_only=True):
    """What the daemon knows at one moment, `at` in Unix seconds; without a `view` nothing is
    measured."""

    node: str
    at: float
    inventory: Inventory
    held: tuple[Held, ...] = ()
    listed: Listed = field(default_factory=dict)
    view: TelemetryView | None = None
    trends: Trends = field(default_factory=dict)
    alerts: tuple[AlertStatus, ...] = ()
    notices: tuple[str, ...] = ()


def status_of(known: Known, *, pods: bool) -> Status:
    """The document; with `pods` it names them."""
    inventory = known.inventory
    return Status(
        node=known.node,
        at=known.at,
        pods_shown=pods,
        devices=_Devices(known, pods=pods).all(),
        faults=tuple(_faults(inventory)),
        alerts=known.alerts,
        links=tuple(_links(wholes(inventory))),
        resources=tuple(_resources(known)),
        vendors=tuple(
            VendorDocument(name=v.name, driver_version=v.driver_version, error=v.error)
            for v in inventory.vendors.values()
        ),
        notices=known.notices,
    )


def wholes(inventory: Inventory) -> Sequence[Device]:
    """The GPUs themselves, and parts whose GPU is not known, in the order of people."""
    found = [d for d in inventory.devices.values() if d.parent not in inventory.devices]
    return sorted(found, key=lambda d: (d.vendor, d.index is None, d.index or 0, d.id))


class _Devices:
    """The devices of one document, each with what belongs to it."""

    def __init__(self, known: Known, *, pods: bool) -> None:
        self._known, self._pods = known, pods
        self._names: dict[DeviceID, list[str]] = {}
        for name, resource in sorted(known.listed.items()):
            for device in dict.fromkeys(entry.device for entry in resource.devices):
                self._names.setdefault(device, []).append(name)
        self._holders: dict[DeviceID, list[HolderStatus]] = {}
        for (namespace, pod, container), resource_name, device in sorted(set(known.held)):
            holder = HolderStatus(
                namespace=namespace, pod=pod, container=container, resource=resource_name
            )
            self._holders.setdefault(device, []).append(holder)
        self._parts: dict[DeviceID, list[Device]] = {}
        for part in known.inventory.devices.values():
            if part.parent is not None:
                self._parts.setdefault(part.parent, []).append(part)

    def all(self) -> tuple[DeviceStatus, ...]:
        """Each GPU with its partitions inside."""
        return tuple(self._device(device) for device in wholes(self._known.inventory))

    def _device(self, device: Device) -> DeviceStatus:
        inventory, holders = self._known.inventory, self._holders.get(device.id, [])
        parts = sorted(self._parts.get(device.id, ()), key=lambda d: (d.ordinal or "", d.id))
        return DeviceStatus(
            id=device.id,
            vendor=device.vendor,
            product=device.product,
            profile=device.profile,
            index=device.index,
            pci_address=device.pci_address,
            numa_node=device.numa_node,
            memory_bytes=device.memory_bytes,
            resources=tuple(self._names.get(device.id, ())),
            health=inventory.health_of(device),
            condition=condition_of(inventory, device),
            held=len({(h.namespace, h.pod, h.container) for h in holders}),
            held_by=tuple(holders) if self._pods else None,
            measured=self._measured(device),
            partitions=tuple(self._device(part) for part in parts),
            history=self._known.trends.get(device.id, ()),
        )

    def _measured(self, device: Device) -> Measured | None:
        view = self._known.view.devices.get(device.id) if self._known.view else None
        if view is None:
            return None
        used = view.value("memory_used_bytes")
        return Measured(
            up=view.up,
            age_s=None if view.seen_at is None else max(0.0, self._known.at - view.seen_at),
            utilization_ratio=view.value("utilization_ratio", engine="compute"),
            memory_used_bytes=None if used is None else int(used),
            temperature_celsius=_hottest(view),
            power_watts=view.value("power_watts"),
            power_limit_watts=view.value("power_limit_watts"),
        )


def _hottest(view: DeviceView) -> float | None:
    """The GPU's own sensor, else any other that it has."""
    own = view.value("temperature_celsius", sensor="gpu")
    return own if own is not None else view.value("temperature_celsius")


def _faults(inventory: Inventory) -> Iterable[FaultStatus]:
    """Those that take devices away first."""
    found = [fault for faults in inventory.faults.values() for fault in faults]
    for fault in sorted(found, key=lambda f: (not f.kind.withdraws, f.since or 0.0, f.key)):
        yield FaultStatus(
            device=fault.device,
            source=fault.source,
            code=fault.code,
            kind=fault.kind,
            reason=fault.reason,
            action=fault.action,
            since=fault.since,
        )


def _links(gpus: Sequence[Device]) -> Iterable[LinkStatus]:
    """Between any two GPUs of one vendor: those of two share memory with nobody."""
    for one, other in combinations(gpus[:MAX_LINKED], 2):
        if one.vendor != other.vendor:
            continue
        between = [link for link in one.links if link.peer == other.id]
        between += [link for link in other.links if link.peer == one.id]
        places = (Place(numa_node=one.numa_node), Place(numa_node=other.numa_node))
        yield LinkStatus(
            one=one.id,
            other=other.id,
            relation=distance(between, *places).relation,
            direct=any(link.kind != LinkKind.PCIE for link in between),
        )


def _resources(known: Known) -> Iterable[ResourceStatus]:
    held: dict[str, int] = {}
    for _, name, _ in known.held:
        held[name] = held.get(name, 0) + 1
    for name, resource in sorted(known.listed.items()):
        healthy = sum(entry.health is Health.HEALTHY for entry in resource.devices)
        yield ResourceStatus(
            name=name, capacity=len(resource.devices), allocatable=healthy, held=held.get(name, 0)
        )
