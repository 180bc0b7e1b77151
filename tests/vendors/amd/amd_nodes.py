"""The nodes that AMD's tests look at: trees from files, and from the shipped builder."""

import tarfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.host import MAX_FILE_BYTES
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.model import Device, Discovery
from deviceplugin.testing.amd import (
    DEMO_GPUS,
    MI210,
    MI300X,
    MI308X,
    V620_HOST,
    SimulatedGpu,
    SimulatedHostFunctions,
    amd_tree,
    pci_lines,
)
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors import amd
from deviceplugin.vendors.amd.kfd import parse_properties
from deviceplugin.vendors.amd.vendor import AmdVendor

TREES = Path(__file__).parent / "trees"
DATA = Path(__file__).parents[4] / "shared" / "data"
HIVES = (12609507387757274807, 7120356710246532095)


def mi210_x8() -> tuple[SimulatedGpu, ...]:
    """Two XGMI hives of four, each at its own socket (buses as recorded)."""
    return tuple(
        SimulatedGpu(
            address=f"0000:{bus}:00.0",
            model=MI210,
            unique_id=f"1901ead3a2ecd4{number:02x}",
            numa_node=number // 4,
            hive=HIVES[number // 4],
        )
        for number, bus in enumerate(("03", "26", "43", "63", "83", "a3", "c3", "e3"))
    )


def mi300x(**changes: Any) -> SimulatedGpu:
    """One MI300X in CPX and NPS4 unless `changes` say otherwise."""
    values: dict[str, Any] = {
        "address": "0000:05:00.0",
        "model": MI300X,
        "unique_id": "e3aa140f9a5f9e31",
    }
    return SimulatedGpu(**(values | {"mode": "CPX", "memory_mode": "NPS4"} | changes))


def mi308x_x2() -> tuple[SimulatedGpu, ...]:
    """Two MI308X in CPX in different PCI domains."""
    return tuple(
        mi300x(address=address, model=MI308X, unique_id=f"84cb1cf0d9e4e7a{number}")
        for number, address in enumerate(("0000:0a:00.0", "0001:0b:00.0"))
    )


MI300X_HOST = SimulatedHostFunctions(
    address="0000:85:00.0", device_id=0x74A1, vf_device_id=0x74B5, class_id=0x120000, functions=1
)
MI25_HOST = SimulatedHostFunctions(
    address="0000:85:00.0", device_id=0x6860, vf_device_id=0x686C, class_id=0x030000, functions=4
)
NODES: Mapping[str, str] = {
    "demo": amd_tree(DEMO_GPUS, [V620_HOST]),
    "mi210-x8": amd_tree(mi210_x8()),
    "mi300x-spx": amd_tree([mi300x(mode="SPX", memory_mode="NPS1")]),
    "mi300x-cpx": amd_tree([mi300x()]),
    "mi300x-cpx-dotted": amd_tree([mi300x(separator=".")]),
    "mi308x-cpx": amd_tree(mi308x_x2()),
    "gim-v620": amd_tree([], [V620_HOST]),
    "gim-mi300x": amd_tree([], [MI300X_HOST]),
    "gim-mi25": amd_tree([], [MI25_HOST]),
    "guest-mi300x-vf": (TREES / "guest-mi300x-vf.tree").read_text(),
    "guest-v620-vf": (TREES / "guest-v620-vf.tree").read_text(),
    "no-numa": (TREES / "no-numa.tree").read_text(),
    "broken": amd_tree(mi210_x8()).replace(
        "/sys/devices/pci0000:40/0000:03:00.0/driver -> ../../../bus/pci/drivers/amdgpu", ""
    )
    + "\n"
    + (TREES / "broken.tree").read_text(),
}


class Denied(Host):
    """A host that denies some files: chmod does not stop tests that root runs."""

    def __init__(self, root: Path, denied: Sequence[str]) -> None:
        super().__init__(root)
        self.denied = denied

    def read_bytes(self, host_path: str, size: int = MAX_FILE_BYTES) -> bytes | None:
        """As EPERM from the kernel arrives at a vendor."""
        self._deny(host_path)
        return super().read_bytes(host_path, size)

    def read_link(self, host_path: str) -> str | None:
        """The same for links."""
        self._deny(host_path)
        return super().read_link(host_path)

    def read_names(self, host_path: str) -> tuple[str, ...]:
        """The same for directories."""
        self._deny(host_path)
        return super().read_names(host_path)

    def _deny(self, host_path: str) -> None:
        if any(part in host_path for part in self.denied):
            raise DiscoveryError(f"{host_path}: Operation not permitted")


def sections(**given: object) -> dict[str, msgspec.Struct]:
    """Sections as the daemon decodes them from a configuration file."""
    return {name: msgspec.convert(value, amd.SECTIONS[name]) for name, value in given.items()}


def vendor_at(root: Path, text: str = "", **given: object) -> AmdVendor:
    """The vendor of a node that `text` is written to first."""
    write_tree(root, text)
    return amd.create(Host(root), sections(**given))


def look(root: Path, text: str, **given: object) -> Discovery:
    """One discovery of the node of `text`."""
    return vendor_at(root, text, **given).discover()


def offered(discovery: Discovery, resource: str | None = None) -> list[Device]:
    """The devices that can be given to somebody, as `resource` where it is given."""
    taken = {fault.device for fault in discovery.faults if fault.kind.withdraws}
    listed = [device for device in discovery.devices if device.resource]
    found = [device for device in listed if taken.isdisjoint((device.id, device.parent))]
    return [device for device in found if resource is None or device.resource == resource]


class RecordedNode(NamedTuple):
    """What a recorded KFD node tells about its PCI and DRM side."""

    domain: int
    location: int
    minor: int
    device_id: int
    unique_id: int


def recorded_tree(archive: str) -> str:
    """The tree of a recorded KFD topology, PCI and DRM side derived; skips where it is absent."""
    path = DATA / archive
    if not path.exists():
        pytest.skip(f"no recorded topology: {path} is absent")
    lines, nodes = ["/dev/kfd c 235:0", f"{TOPOLOGY}/generation_id = 80"], []
    with tarfile.open(path) as tar:
        for member in tar:
            if not (member.isfile() and member.name.endswith("/properties")):
                continue
            content = tar.extractfile(member)
            assert content is not None
            text = content.read().decode()
            inner = member.name.split("/nodes/", 1)[1]
            lines.append(f"{TOPOLOGY}/nodes/{inner} = " + text.strip().replace("\n", "\\n"))
            values = parse_properties(text)
            if inner.count("/") == 1 and values.get("simd_count"):
                keys = ("domain", "location_id", "drm_render_minor", "device_id", "unique_id")
                nodes.append(RecordedNode(*(values[key] for key in keys)))
    return "\n".join([*lines, *_derived_lines(nodes)])


def _derived_lines(nodes: Sequence[RecordedNode]) -> list[str]:
    gpus: dict[tuple[int, int], list[RecordedNode]] = defaultdict(list)
    for node in nodes:
        gpus[node.domain, node.location & ~7].append(node)
    lines: list[str] = []
    for (domain, location), parts in gpus.items():
        address = f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 31:02x}.0"
        lines += pci_lines(address, 0x1002, parts[0].device_id, 0x120000)
        path = f"/sys/devices/pci0000:40/{address}"
        model = {0x740F: MI210, 0x74A1: MI300X}[parts[0].device_id]
        lines += [
            f"{path}/driver -> ../../../bus/pci/drivers/amdgpu",
            f"{path}/unique_id = {parts[0].unique_id:016x}",
            f"{path}/mem_info_vram_total = {model.memory_bytes}",
        ]
        if len(parts) > 1:
            lines.append(f"{path}/current_compute_partition = CPX")
            lines.append(f"{path}/current_memory_partition = NPS4")
        for part in parts:
            lines += _drm_lines(path, address, part)
    return lines


def _drm_lines(path: str, address: str, node: RecordedNode) -> list[str]:
    owner, name = path, address
    if node.location & 7:
        name = f"amdgpu_xcp_{node.minor}"
        owner = f"/sys/devices/platform/{name}"
    render = f"renderD{node.minor}"
    return [
        f"{owner}/drm/{render}/device -> ../../../{name}",
        f"/sys/class/drm/{render} -> ../..{owner.removeprefix('/sys')}/drm/{render}",
        f"/dev/dri/{render} c 226:{node.minor}",
    ]
