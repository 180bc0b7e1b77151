"""Series that alerts need and nobody else has: what fires, and what is handed out of a device."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from deviceplugin.alerts.judge import States
from deviceplugin.metrics.registry import Family
from deviceplugin.model import DeviceID, Resource, ResourceName

Held = tuple[tuple[str, str, str], ResourceName, DeviceID]
Listed = Mapping[ResourceName, Resource]
Shares = Mapping[tuple[ResourceName, DeviceID], tuple[int, int | None]]


class AlertsCollector:
    """1 for each alert of the section `monitoring` that fires on a device."""

    def __init__(self, states: Callable[[], States]) -> None:
        self._states = states

    def collect(self) -> Iterator[Family]:
        """The series as they are now."""
        family = Family(
            "deviceplugin_alert_firing",
            "gauge",
            "1 for each alert of the section monitoring that fires on a device, 0 while it waits",
            ["alert", "severity", "device"],
        )
        for one in self._states().values():
            labels = [one.alert.name, one.alert.severity, one.device]
            family.add(labels, float(one.firing))
        yield family


class GrantsCollector:
    """How many containers hold a device, into how many shares it is cut, and how much of its
    memory was granted; the last one also by container, where `names` allow to name those."""

    def __init__(
        self,
        listed: Callable[[], Listed],
        held: Callable[[], Iterable[Held]],
        named: Callable[[], bool],
    ) -> None:
        self._listed, self._held, self._named = listed, held, named
        self._known: tuple[Listed, Shares] = ({}, {})

    def collect(self) -> Iterator[Family]:
        """The series as they are now."""
        shares, held = self._shares(), list(self._held())
        yield _holders(held, shares)
        cut = Family(
            "deviceplugin_device_shares", "gauge", "Shares that a device is cut into", ["device"]
        )
        for device, count in sorted(_most(shares).items()):
            cut.add([device], count)
        yield cut
        yield from self._granted(held, shares)

    def _shares(self) -> Shares:
        """Counted once for each list: there may be tens of thousands of ids."""
        listed = self._listed()
        if self._known[0] is not listed:
            self._known = (listed, _shares_of(listed))
        return self._known[1]

    def _granted(self, held: Iterable[Held], shares: Shares) -> Iterator[Family]:
        devices: dict[DeviceID, int] = {}
        containers: dict[tuple[str, ...], int] = {}
        for who, name, device in held:
            unit = shares.get((name, device), (1, None))[1]
            if unit is not None:
                devices[device] = devices.get(device, 0) + unit
                containers[*who, device] = containers.get((*who, device), 0) + unit
        family = Family(
            "deviceplugin_device_granted_bytes",
            "gauge",
            "Memory of a device that was granted to containers as slices",
            ["device"],
        )
        for device, value in sorted(devices.items()):
            family.add([device], value)
        yield family
        if self._named():
            yield _by_container(containers)


def _by_container(containers: Mapping[tuple[str, ...], int]) -> Family:
    family = Family(
        "deviceplugin_container_granted_bytes",
        "gauge",
        "Memory of a device that was granted to one container as slices",
        ["namespace", "pod", "container", "device"],
    )
    for labels, value in sorted(containers.items()):
        family.add(labels, value)
    return family


def _holders(held: Iterable[Held], shares: Shares) -> Family:
    family = Family(
        "deviceplugin_device_holders", "gauge", "Containers that hold a device", ["device"]
    )
    holders: dict[DeviceID, set[tuple[str, str, str]]] = {device: set() for _, device in shares}
    for who, _, device in held:
        holders.setdefault(device, set()).add(who)
    for device, found in sorted(holders.items()):
        family.add([device], len(found))
    return family


def _shares_of(listed: Listed) -> Shares:
    found: dict[tuple[ResourceName, DeviceID], tuple[int, int | None]] = {}
    for name, resource in listed.items():
        for entry in resource.devices:
            key = (name, entry.device)
            unit = entry.share.unit_bytes if entry.share else None
            found[key] = (found[key][0] + 1 if key in found else 1, unit)
    return found


def _most(shares: Shares) -> Mapping[DeviceID, int]:
    """A device that is offered in several forms is held in one of them."""
    most: dict[DeviceID, int] = {}
    for (_, device), (count, _) in shares.items():
        most[device] = max(most.get(device, 0), count)
    return most
