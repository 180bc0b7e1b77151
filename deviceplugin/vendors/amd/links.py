"""KFD's links between the devices of a discovery, by their ids.

Links are read at one node of each PCI function and hold for all partitions of it: the kernel's
weights are between packages (13 within one, 15 or 41 to another by XGMI), and the 63 partitions of
a full node have 4,000 link files.
"""

from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Link, LinkKind
from deviceplugin.vendors.amd.found import Found
from deviceplugin.vendors.amd.kfd import KfdLink, Topology, read_links

RENEWED_LOOKS = 12


class _View(Struct, frozen=True, kw_only=True, eq=False):
    """The links as one device (the first of its PCI function) sees them, by the peer's id."""

    first: DeviceID
    links: Mapping[DeviceID, KfdLink]
    made: dict[DeviceID, tuple[Link, ...]] = field(default_factory=dict)

    def links_of(self, device: DeviceID) -> tuple[Link, ...]:
        """A device's links in the order of ids, made once."""
        if device not in self.made:
            self.made[device] = _links(self._of(device))
        return self.made[device]

    def _of(self, device: DeviceID) -> Mapping[DeviceID, KfdLink]:
        """The links of a device of the same PCI function: its own link to the first, turned
        round, and the first's links to all others."""
        if device == self.first or device not in self.links:
            return self.links
        others = {peer: link for peer, link in self.links.items() if peer != device}
        return others | {self.first: self.links[device]}


class KnownLinks:
    """The views of the last read: good while KFD shows the same generation and the same nodes.

    Links are most of KFD's files and change only when the kernel rebuilds its topology. That
    `generation_id` always grows then was not seen on hardware: the nodes count too, and every
    RENEWED_LOOKS-th look reads all links again.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._looks = 0
        self._views: Mapping[str | None, _View] = {}

    def views(self, host: Host, found: Found, topology: Topology) -> Mapping[str | None, _View]:
        """What the first device of each PCI function sees, by its address."""
        key = (topology, found.kfd_nodes) if topology.generation else None
        self._looks += 1
        if key is None or key != self._key or self._looks >= RENEWED_LOOKS:
            self._key, self._looks = key, 0
            self._views = _read_views(host, found)
        return self._views


def with_links(found: Found, views: Mapping[str | None, _View]) -> tuple[Device, ...]:
    """The devices, each with its links to the other devices that KFD shows, in id order."""
    shown = {device for _, device in found.kfd_nodes}
    return tuple(
        replace(device, links=views[device.pci_address].links_of(device.id))
        if device.id in shown
        else device
        for device in found.devices
    )


def _read_views(host: Host, found: Found) -> Mapping[str | None, _View]:
    numbers = {device: number for number, device in found.kfd_nodes}
    ids = dict(found.kfd_nodes)
    views: dict[str | None, _View] = {}
    for device in found.devices:
        if device.id in numbers and device.pci_address not in views:
            read = read_links(host, numbers[device.id])
            links = {ids[link.peer]: link for link in read if link.peer in ids}
            views[device.pci_address] = _View(first=device.id, links=links)
    return views


def _links(by_peer: Mapping[DeviceID, KfdLink]) -> tuple[Link, ...]:
    return tuple(_link(peer, by_peer[peer].kind, by_peer[peer].weight) for peer in sorted(by_peer))


# 63 partitions have 4,000 links, the same at nearly every look; equal ones are one object.
@lru_cache(maxsize=8192)
def _link(peer: DeviceID, kind: LinkKind, weight: int | None) -> Link:
    return Link(peer=peer, kind=kind, weight=weight)
