"""What AMD's kernel driver calls a GPU, by which the ROCm Validation Suite takes it; blocking."""

import re

from deviceplugin.errors import VendorError
from deviceplugin.host import Host

_NODES = "/sys/class/kfd/kfd/topology/nodes"
_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_WORD = re.compile(r"^(location_id|domain) (\d{1,10})$", re.MULTILINE)


def read_kfd_id(host: Host, address: str) -> int | None:
    """The `gpu_id` of the whole GPU at a PCI address; None where the driver has none, or several
    (partitions of one GPU). location_id is bus, device and function (kernel, kfd_topology.c)."""
    place = parse_location(address)
    found = []
    try:
        for node in host.read_names(_NODES):
            words = dict(_WORD.findall(host.read_text(f"{_NODES}/{node}/properties") or ""))
            if place == (int(words.get("domain", 0)), int(words.get("location_id", 0))):
                found.append(host.read_int(f"{_NODES}/{node}/gpu_id"))
    except VendorError:
        return None
    return found[0] if len(found) == 1 and found[0] else None


def parse_location(address: str) -> tuple[int, int] | None:
    """Domain and location of a PCI address."""
    parts = _ADDRESS.fullmatch(address.lower())
    if parts is None:
        return None
    domain, bus, device, function = (int(part, 16) for part in parts.groups())
    return domain, bus << 8 | device << 3 | function
