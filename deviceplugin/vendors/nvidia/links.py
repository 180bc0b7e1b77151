"""How GPUs are connected: NVLink, direct or through NVSwitch, and PCIe; read once a set of GPUs.

A link query can take 600 ms where persistence mode is off (k8s-device-plugin#774), so this is
never asked in a call of the kubelet.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from deviceplugin.errors import LibraryError
from deviceplugin.host.pci import parse_address
from deviceplugin.model import DeviceID, Link, LinkKind
from deviceplugin.vendors.nvidia.library import Nvml

MAX_LINKS = 36  # nvml.h, NVML_NVLINK_MAX_LINKS
SWITCH = 2  # nvml.h, NVML_NVLINK_DEVICE_TYPE_SWITCH
# nvml.h, NVML_TOPOLOGY_*: the nearest common ancestor, from one board to different CPUs.

Handles = Mapping[DeviceID, tuple[Any, str]]
Links = Mapping[DeviceID, tuple[Link, ...]]


def read_links(nvml: Nvml, gpus: Handles) -> Links:
    """The links of each GPU to each other; `gpus` maps a UUID to its handle and PCI address.

    A pair whose relation the driver does not report has no link: the worst, not the best.
    """
    by_address = {address: uuid for uuid, (_, address) in gpus.items()}
    nvlinks = {uuid: _read_nvlinks(nvml, handle, by_address) for uuid, (handle, _) in gpus.items()}
    found: dict[DeviceID, list[Link]] = {uuid: [] for uuid in gpus}
    for one, other in combinations(sorted(gpus), 2):
        for link in _pair(nvml, gpus, nvlinks, (one, other)):
            found[one].append(link)
            found[other].append(
                Link(peer=one, kind=link.kind, width=link.width, weight=link.weight)
            )
    return {uuid: tuple(sorted(links, key=_peer_and_kind)) for uuid, links in found.items()}


def _pair(
    nvml: Nvml,
    gpus: Handles,
    nvlinks: Mapping[DeviceID, tuple[Mapping[DeviceID, int], int]],
    pair: tuple[DeviceID, DeviceID],
) -> list[Link]:
    one, other = pair
    (direct, switched), (_, other_switched) = nvlinks[one], nvlinks[other]
    links = []
    if width := direct.get(other, 0) or min(switched, other_switched):
        links.append(Link(peer=other, kind=LinkKind.NVLINK, width=width))
    level = _ask(nvml, "nvmlDeviceGetTopologyCommonAncestor", gpus[one][0], gpus[other][0])
    if level is not None:
        links.append(Link(peer=other, kind=LinkKind.PCIE, weight=level))
    return links


def _read_nvlinks(
    nvml: Nvml, handle: Any, by_address: Mapping[str, DeviceID]
) -> tuple[Mapping[DeviceID, int], int]:
    """Active NVLinks to each GPU, and the number of those that end at a switch."""
    direct: dict[DeviceID, int] = {}
    switched = 0
    for link in range(MAX_LINKS):
        if not _ask(nvml, "nvmlDeviceGetNvLinkState", handle, link):
            continue
        if _ask(nvml, "nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == SWITCH:
            switched += 1
            continue
        peer = _remote(nvml, handle, link, by_address)
        if peer is not None:
            direct[peer] = direct.get(peer, 0) + 1
    return direct, switched


def _remote(
    nvml: Nvml, handle: Any, link: int, by_address: Mapping[str, DeviceID]
) -> DeviceID | None:
    info = _ask(nvml, "nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
    if info is None:
        return None
    bus = info.busId
    try:
        return by_address.get(parse_address(bus.decode() if isinstance(bus, bytes) else str(bus)))
    except ValueError:  # undecodable bytes are one too
        return None


def _ask(nvml: Nvml, function: str, *arguments: Any) -> Any:
    """A link that cannot be read counts as none: a fault of the GPU shows elsewhere."""
    try:
        return nvml.ask(function, *arguments)
    except LibraryError:
        return None


def _peer_and_kind(link: Link) -> tuple[str, str]:
    return (link.peer, link.kind)
