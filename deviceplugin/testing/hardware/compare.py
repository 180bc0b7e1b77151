"""What we say of the GPUs beside what a vendor's tool says; pure.

A device is a dictionary as `deviceplugin discover --format json` prints it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.testing.hardware.tools import Tool, ToolGpu
from deviceplugin.testing.hardware.topology import LEVELS, nvlinks
from deviceplugin.testing.hardware.verdict import Check, agree, differ, judged, not_available

Device = Mapping[str, Any]
_MIB = 1 << 20
_WIDE = 60


def whole_gpus(devices: Sequence[Device], vendor: str) -> Mapping[str, Device]:
    """The vendor's GPUs by PCI address, without their partitions and functions."""
    return {
        device["pci_address"]: device
        for device in devices
        if device["vendor"] == vendor and device["parent"] is None and device["pci_address"]
    }


def compare(tool: Tool, theirs: Sequence[ToolGpu], devices: Sequence[Device]) -> list[Check]:
    """A check for each thing that both could say."""
    ours = whole_gpus(devices, tool.vendor)
    by_address = {gpu.pci_address: gpu for gpu in theirs}
    pairs = [(ours[a], by_address[a]) for a in sorted(ours.keys() & by_address.keys())]
    named = f"{tool.name}: "
    return [
        _count(f"{named}count", len(ours), len(by_address)),
        _addresses(f"{named}PCI address", ours.keys(), by_address.keys()),
        *(_field(f"{named}{name}", pairs, read) for name, read in _FIELDS.items()),
        _links(f"{named}links", pairs),
        _parts(f"{named}partitions", pairs, devices),
    ]


def _count(name: str, ours: int, theirs: int) -> Check:
    if ours == theirs:
        return agree(name, f"{ours} GPUs")
    return differ(name, f"we find {ours} GPUs, it {theirs}")


def _addresses(name: str, ours: Any, theirs: Any) -> Check:  # views of keys
    problems = [f"{address}: only we find it" for address in sorted(ours - theirs)]
    problems += [f"{address}: only it finds it" for address in sorted(theirs - ours)]
    return judged(name, problems, ", ".join(sorted(ours)[:8]))


# What each says of a GPU, ours first.
Reader = Callable[[Device, ToolGpu], tuple[Any, Any]]


def _memory(device: Device, gpu: ToolGpu) -> tuple[Any, Any]:
    """It writes whole MiB: a difference below one is none."""
    ours, theirs = device["memory_bytes"], gpu.memory_bytes
    if None not in (ours, theirs) and abs(ours - theirs) < _MIB:
        theirs = ours
    return ours, theirs


def _minor(device: Device, gpu: ToolGpu) -> tuple[Any, Any]:
    """A number, or the path of a node that containers are given."""
    if gpu.minor is None or not gpu.minor.startswith("/dev/"):
        return device["attributes"].get("minor"), gpu.minor
    kind = gpu.minor.rstrip("0123456789")
    ours = [node for node in device["nodes"] if node.rstrip("0123456789") == kind]
    return (ours[0] if ours else None), gpu.minor


def _switch(device: Device, key: str) -> str | None:
    """`enabled` or `disabled`, of a field or an attribute."""
    value = device.get(key, device["attributes"].get(key))
    return {True: "enabled", False: "disabled"}.get(value, value)


def _plain(name: str | None) -> str | None:
    """Without the marks that one tool writes and another does not."""
    return name and " ".join(re.sub(r"\((?:R|TM|C)\)", "", name).split())


_FIELDS: Mapping[str, Reader] = {
    "UUID": lambda device, gpu: (device["id"], gpu.uuid),
    "name": lambda device, gpu: (_plain(device["product"]), _plain(gpu.name)),
    "memory": _memory,
    "minor": _minor,
    "MIG mode": lambda device, gpu: (_switch(device, "mig"), gpu.mig),
    "ECC mode": lambda device, gpu: (_switch(device, "ecc"), gpu.ecc),
}


def _field(name: str, pairs: Sequence[tuple[Device, ToolGpu]], read: Reader) -> Check:
    said = [(device["pci_address"], *read(device, gpu)) for device, gpu in pairs]
    known = [one for one in said if None not in one]
    if not known:
        return not_available(name, _silent(said))
    problems = [f"{address}: we say {a}, it {b}" for address, a, b in known if a != b]
    values = ", ".join(sorted({str(a) for _, a, _ in known}))
    return judged(name, problems, values if len(values) < _WIDE else f"of {len(known)} GPUs")


def _silent(said: Sequence[tuple[str, Any, Any]]) -> str:
    """Who does not say it."""
    if not said:
        return "no GPU that both find"
    ours, theirs = (any(one[i] is not None for one in said) for i in (1, 2))
    if ours == theirs:
        return "neither says it"
    return "we do not say it" if theirs else "it does not say it"


def _links(name: str, pairs: Sequence[tuple[Device, ToolGpu]]) -> Check:
    """GPUs in MIG mode aside: they have no links of their own."""
    whole = {gpu.pci_address: device for device, gpu in pairs if gpu.mig != "enabled"}
    told = [(d, gpu) for d, gpu in pairs if gpu.pci_address in whole and gpu.links.keys() & whole]
    if not told:
        return not_available(name, "it tells of no pair of GPUs")
    problems = [p for device, gpu in told for p in _link_problems(device, gpu, whole)]
    words = sorted({word for _, gpu in told for word in gpu.links.values()})
    return judged(name, problems, ", ".join(words))


def _link_problems(device: Device, gpu: ToolGpu, whole: Mapping[str, Device]) -> Iterator[str]:
    for address, word in sorted(gpu.links.items()):
        if address not in whole:
            continue
        mine = [link for link in device["links"] if link["peer"] == whole[address]["id"]]
        width = sum(link["width"] for link in mine if link["kind"] == "NVLINK")
        level = next((link["weight"] for link in mine if link["kind"] == "PCIE"), None)
        where = f"{device['pci_address']} to {address}"
        if width != nvlinks(word):
            yield f"{where}: we say {width} NVLinks, it {word}"
        elif word in LEVELS and level not in LEVELS[word]:
            yield f"{where}: we say PCIe level {level}, it {word}"


def _parts(name: str, pairs: Sequence[tuple[Device, ToolGpu]], devices: Sequence[Device]) -> Check:
    told = [(device, gpu) for device, gpu in pairs if gpu.parts is not None]
    if not told:
        return not_available(name, "it tells of none")
    problems = []
    for device, gpu in told:
        children = [child for child in devices if child["parent"] == device["id"]]
        theirs = gpu.parts or frozenset()
        if gpu.mig is None:
            ours, wanted = str(len(children) or 1), str(len(theirs))
        else:
            ours, wanted = _instances(map(_instance, children)), _instances(theirs)
        if ours != wanted:
            problems.append(f"{device['pci_address']}: we say {ours}, it {wanted}")
    return judged(name, problems, f"{sum(len(gpu.parts or ()) for _, gpu in told)} in all")


def _instance(child: Device) -> tuple[int, int]:
    attributes = child["attributes"]
    return int(attributes.get("gpu_instance", -1)), int(attributes.get("compute_instance", -1))


def _instances(found: Any) -> str:  # pairs of numbers
    return " ".join(f"gi{gi}/ci{ci}" for gi, ci in sorted(found)) or "none"
