"""What is wrong with the node's devices, in the words of Kubernetes; pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from deviceplugin.inventory.conditions import RECOVERING, SOURCE
from deviceplugin.model import Device, DeviceID, Fault, Health, Inventory, ResourceName
from deviceplugin.names import short_digest

Document = dict[str, Any]
# Namespace, pod and container, then the resource and the device of an id that it holds.
Held = tuple[tuple[str, str, str], ResourceName, DeviceID]
Pod = tuple[str, str]
COMPONENT = "deviceplugin"
CONDITION = "GpuProblem"
TAINT = "deviceplugin/gpu-problem"
UNHEALTHY, HEALTHY = "DeviceUnhealthy", "DeviceHealthy"
GONE = "deviceplugin.inventory/gone"
MAX_MESSAGE = 1000  # the API server takes 1024 bytes for an Event
MAX_NAMED = 4


class Cause(Struct, frozen=True, kw_only=True):
    """One thing that is wrong, the devices that are Unhealthy by it (partitions are not named
    beside their whole), since when (Unix seconds), and the pods that hold them. `event` and `ended`
    are the reasons of its Events."""

    name: str
    reason: str
    action: str
    devices: tuple[DeviceID, ...]
    addresses: tuple[str, ...] = ()
    since: float | None = None
    pods: tuple[Pod, ...] = ()
    event: str = UNHEALTHY
    ended: str = HEALTHY

    @property
    def key(self) -> str:
        """What makes it the same cause at another time."""
        return "|".join((self.name, *self.devices))

    @property
    def message(self) -> str:
        """One line for people."""
        named = [
            f"{device} ({address})" if address not in ("", device) else device
            for device, address in zip(self.devices, self.addresses, strict=False)
        ][:MAX_NAMED]
        more = len(self.devices) - len(named)
        text = ", ".join(named) + (f" and {more} more" if more else "")
        line = f"{text}: {self.reason} ({self.name}); do: {self.action}"
        return line.encode()[:MAX_MESSAGE].decode(errors="ignore")


def causes(
    inventory: Inventory, held: Iterable[Held], listed: Collection[ResourceName]
) -> tuple[Cause, ...]:
    """What makes devices Unhealthy now, and devices that pods hold and that are gone; sorted.

    What pods hold of a resource that is not `listed` has not been looked for yet.
    """
    holders: dict[DeviceID, set[Pod]] = {}
    gone_ids: set[DeviceID] = set()
    for (namespace, pod, _), name, held_id in held:
        holders.setdefault(held_id, set()).add((namespace, pod))
        if name in listed and held_id not in inventory.devices:
            gone_ids.add(held_id)
    gone = [_gone(device, holders[device]) for device in gone_ids]
    every = [*(_cause(name, hit, holders) for name, hit in _faulty(inventory).items()), *gone]
    return tuple(sorted(every, key=lambda cause: cause.key))


def _faulty(
    inventory: Inventory,
) -> dict[tuple[str, str, str], list[tuple[Device, Fault]]]:
    """The devices that are Unhealthy, by name, reason and action of each fault."""
    found: dict[tuple[str, str, str], list[tuple[Device, Fault]]] = {}
    for device in inventory.devices.values():
        for fault in inventory.faults_of(device):
            if fault.kind.withdraws and (fault.source, fault.code) != (SOURCE, RECOVERING):
                name = f"{fault.source}/{fault.code}"
                found.setdefault((name, fault.reason, fault.action), []).append((device, fault))
    return found


def _cause(
    name: tuple[str, str, str],
    hit: Sequence[tuple[Device, Fault]],
    holders: dict[DeviceID, set[Pod]],
) -> Cause:
    ids = {device.id for device, _ in hit}
    roots = [device for device, _ in hit if device.parent not in ids]
    pods = set().union(*(holders.get(device, set()) for device in ids))
    since = [fault.since for _, fault in hit if fault.since is not None]
    return Cause(
        name=name[0],
        reason=name[1],
        action=name[2],
        devices=tuple(sorted(device.id for device in roots)),
        addresses=tuple(d.pci_address or "" for d in sorted(roots, key=lambda d: d.id)),
        since=min(since, default=None),
        pods=tuple(sorted(pods)),
    )


def _gone(device: DeviceID, pods: set[Pod]) -> Cause:
    return Cause(
        name=GONE,
        reason="it is not on the node any more, and pods still hold it",
        action="end these pods; if it was not taken out on purpose, see the kernel log",
        devices=(device,),
        addresses=("",),
        pods=tuple(sorted(pods)),
    )


def event(node: str, about: Pod | None, cause: Cause, *, well: bool, now: float) -> Document:
    """An Event on the node or a pod; one for the same thing later has the same name.

    Where the pod's uid is known it is added to `involvedObject`: kubectl describe asks by it.
    """
    reason = cause.ended if well else cause.event
    object_key = "/".join(about) if about else node
    digest = short_digest(f"{object_key}|{reason}|{cause.key}")
    named: Document = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    if about:
        named = {"apiVersion": "v1", "kind": "Pod", "namespace": about[0], "name": about[1]}
    name = (about[1] if about else node)[:230]
    text = f"over: {cause.message}"[:MAX_MESSAGE] if well else cause.message
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{digest}", "namespace": about[0] if about else "default"},
        "involvedObject": named,
        "reason": reason,
        "message": text,
        "type": "Normal" if well else "Warning",
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": time_text(now),
        "lastTimestamp": time_text(now),
        "count": 1,
    }


def condition(found: Sequence[Cause], now: float, since: float) -> Document:
    """The node condition; `since` is when it last changed (Unix seconds)."""
    text = "; ".join(cause.message for cause in found)
    return {
        "type": CONDITION,
        "status": "True" if found else "False",
        "reason": UNHEALTHY if found else "DevicesHealthy",
        "message": text[:MAX_MESSAGE] or "every device that was found is Healthy",
        "lastHeartbeatTime": time_text(now),
        "lastTransitionTime": time_text(since),
    }


def is_tainted(inventory: Inventory, when: str, found: Iterable[Cause]) -> bool:
    """Whether the node is to be tainted now: while `any` of what can be held is Unhealthy, `all`,
    or `never`. A GPU that is only offered by its parts does not count beside them; one that is
    gone, by the causes, counts while a pod holds it."""
    wholes = {device.parent for device in inventory.devices.values()}
    offered = [d for d in inventory.devices.values() if d.id not in wholes]
    ill = [inventory.health_of(device) is Health.UNHEALTHY for device in offered]
    ill += [True for cause in found if cause.name == GONE]
    return bool(ill) and {"any": any(ill), "all": all(ill)}.get(when, False)


def with_taint(taints: Sequence[Document], *, wanted: bool) -> list[Document]:
    """The node's taints with ours or without; others are left as they are."""
    others = [taint for taint in taints if taint.get("key") != TAINT]
    mine = {"key": TAINT, "value": "true", "effect": "NoSchedule"}
    return [*others, mine] if wanted else others


def time_text(seconds: float) -> str:
    """RFC 3339, as the API server writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
