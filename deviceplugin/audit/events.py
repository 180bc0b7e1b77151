"""What happens on the node as records; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.audit.record import Event
from deviceplugin.errors import AllocationError
from deviceplugin.inventory.changes import OPERATOR_SOURCE, events
from deviceplugin.model import Inventory
from deviceplugin.resources.allocation import Allocation, Request
from deviceplugin.resources.entries import Holder
from deviceplugin.resources.usage import Key

_MOST_IDS = 1024  # of a request that is refused: it may name anything
_MAX_ID = 256


class Moment(Struct, frozen=True):
    """When something happened (Unix seconds), and the hash of the configuration in force."""

    at: float
    configuration: str

    def event(self, kind: str, subject: str = "", data: Mapping[str, Any] | None = None) -> Event:
        """A record of it."""
        return Event(
            kind=kind,
            at=self.at,
            subject=subject,
            configuration=self.configuration,
            data=data or {},
        )


def granted(moment: Moment, allocation: Allocation) -> Event:
    """A container was given devices; which one the kubelet says later."""
    devices = [device.id for device in allocation.devices]
    data = {"ids": allocation.ids, "devices": devices}
    return moment.event("allocation.granted", allocation.resource.name, data)


def refused(moment: Moment, request: Request, error: AllocationError) -> Event:
    """A request got nothing."""
    ids = [str(one)[:_MAX_ID] for one in request.ids[:_MOST_IDS]]
    data = {"ids": ids, "refusal": str(error.refusal), "reason": str(error)}
    return moment.event("allocation.refused", request.resource.name, data)


def claim(moment: Moment, what: str, who: Mapping[str, str], devices: Sequence[str]) -> Event:
    """A claim of DRA was `what`: prepared, refused or released."""
    data = {**who, "devices": list(devices)}
    return moment.event(f"claim.{what}", f"{who['namespace']}/{who['claim']}", data)


Holders = Mapping[Key, Holder | None]


def holdings(moment: Moment, before: Holders, after: Holders) -> Iterator[Event]:
    """Who is known to hold what was given, and who holds it no more."""
    came = {key: holder for key, holder in after.items() if holder and before.get(key) != holder}
    gone = {
        key: holder
        for key, holder in before.items()
        if key not in after or (holder and after[key] not in (None, holder))
    }
    for kind, found in (("released", gone), ("held", came)):
        for (resource, holder), ids in _by_holder(found):
            data = {"ids": sorted(ids), **_who(holder)}
            yield moment.event(f"allocation.{kind}", resource, data)


def _by_holder(found: Holders) -> Iterable[tuple[tuple[str, Holder | None], list[str]]]:
    grouped: dict[tuple[str, Holder | None], list[str]] = {}
    for (resource, advertised), holder in found.items():
        grouped.setdefault((resource, holder), []).append(advertised)
    return grouped.items()


def _who(holder: Holder | None) -> Mapping[str, str]:
    if holder is None:  # given, and no container was ever seen to have it
        return {}
    return {"namespace": holder.namespace, "pod": holder.pod, "container": holder.container}


_KINDS = {
    "fault": "health.fault",
    "fault_cleared": "health.fault_cleared",
    "device_healthy": "health.healthy",
    "device_unhealthy": "health.unhealthy",
    "vendor_waits": "vendor.waits",
    "vendor_serves": "vendor.serves",
    "vendor_note": "vendor.note",
}
_ORDERS = {"fault": "cordon.set", "fault_cleared": "cordon.lifted"}


def devices(moment: Moment, before: Inventory, after: Inventory) -> Iterator[Event]:
    """Devices and partitions that came and went, verdicts about health, and operators' orders."""
    for name, fields in events(before, after):
        subject = str(fields.get("device") or fields.get("vendor") or "")
        yield moment.event(_kind(name, fields), subject, dict(fields))


def _kind(name: str, fields: Mapping[str, Any]) -> str:
    if name in ("device_found", "device_gone"):
        thing = "partition" if fields.get("parent") else "device"
        return f"{thing}.{name.removeprefix('device_')}"
    if name in _ORDERS and fields.get("source") == OPERATOR_SOURCE:
        return _ORDERS[name]
    return _KINDS.get(name, name)
