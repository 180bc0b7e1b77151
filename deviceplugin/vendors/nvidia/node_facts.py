"""What the node's files say for labels: the machine, PCI classes, a vGPU's host driver."""

from collections.abc import Sequence

from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES
from deviceplugin.model import Device
from deviceplugin.vendors.nvidia.labels import NodeFacts

MACHINE = "/sys/class/dmi/id/product_name"
CONFIG_BYTES = 256
_STATUS, _HAS_LIST, _LIST, _VENDOR_SPECIFIC = 0x06, 0x10, 0x34, 0x09
_WORD = 10  # bytes of the version, and of the branch


def read_facts(host: Host, devices: Sequence[Device], facts: NodeFacts) -> NodeFacts:
    """The facts with those of the host; what cannot be read stays unknown."""
    addresses = [d.pci_address for d in devices if d.pci_address and d.parent is None]
    classes = {a: c for a in addresses if (c := _class(host, a)) is not None}
    drivers = (parse_host_driver(_config(host, a)) for a in addresses)
    return replace(
        facts,
        machine=_machine(host),
        classes=classes,
        host_driver=next((found for found in drivers if found), None),
    )


def _machine(host: Host) -> str | None:
    try:
        return host.read_line(MACHINE)
    except DiscoveryError:
        return None


def _class(host: Host, address: str) -> int | None:
    try:
        return host.read_int(f"{DEVICES}/{address}/class")
    except DiscoveryError:
        return None


def _config(host: Host, address: str) -> bytes:
    """Without CAP_SYS_ADMIN the kernel gives the first 64 bytes alone."""
    try:
        return host.read_bytes(f"{DEVICES}/{address}/config", CONFIG_BYTES) or b""
    except DiscoveryError:
        return b""


def parse_host_driver(config: bytes) -> tuple[str, str] | None:
    """Version and branch of the host's driver, in the vendor-specific capability `VF` of a vGPU's
    configuration space; None where there is none. Ends for any content."""
    if len(config) < CONFIG_BYTES or not config[_STATUS] & _HAS_LIST:
        return None
    at, seen = config[_LIST], set[int]()
    while at and at not in seen and at + 5 <= len(config):
        seen.add(at)
        if config[at] == _VENDOR_SPECIFIC and config[at + 3 : at + 5] == b"VF":
            return _record(config[at + 5 : at + config[at + 2]])
        at = config[at + 1]
    return None


def _record(data: bytes) -> tuple[str, str] | None:
    """Record 0 of (id, length, content); one without a length would never end the walk."""
    while len(data) >= 2 and data[1] >= 2:
        if data[0] == 0:
            content = data[2 : data[1]].ljust(2 * _WORD, b"\0")
            words = (content[:_WORD], content[_WORD : 2 * _WORD])
            version, branch = (w.split(b"\0")[0].decode("ascii", "replace") for w in words)
            return (version, branch) if version else None
        data = data[data[1] :]
    return None
