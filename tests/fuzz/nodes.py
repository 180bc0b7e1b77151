"""Whole nodes: sysfs with a few files or links that hold something else, looked at as the daemon
does. A node is never too broken to be described, and one bad file costs one device."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.admission import checked
from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.kubelet.wire import encoded_list
from deviceplugin.model import Device, Discovery, Inventory
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.placement.pci_topology import read_pci_topology
from deviceplugin.resources.plan import plan_resources
from deviceplugin.testing import amd as amd_node
from deviceplugin.testing import intel as intel_node
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import Finding, Vendor
from deviceplugin.vendors import amd, intel
from tests.fuzz.surface import Source, Surface, directory, is_line

SECTIONS = decode_sections({}, {**amd.SECTIONS, **intel.SECTIONS})
TREES = Path(__file__).parents[1] / "vendors"
Files = Mapping[str, bytes | str | None]  # the content of a file, the target of a link, a directory


def amd_nodes(data: bytes) -> None:
    """GPUs in each mode, partitions, virtual functions on a host and in a guest."""
    _look(data, _amd_trees(), lambda host: amd.create(host, SECTIONS))


def intel_nodes(data: bytes) -> None:
    """Boards, tiles, virtual functions of each generation of the kernel's interface."""
    _look(data, _intel_trees(), lambda host: intel.create(host, SECTIONS))


def _look(data: bytes, trees: tuple[Files, ...], create: Callable[[Host], Vendor]) -> None:
    source = Source(data)
    files = dict(source.choice(trees))
    while source:
        _change(source, files)
    with directory() as root:
        for path, content in files.items():
            _write(root, path, content)
        host = Host(root)
        vendor = create(host)
        try:
            discovery = vendor.discover()
        except VendorError as error:
            assert is_line(str(error)), str(error)
            return
        assert contract_problems(vendor, host) == []
        _described(host, vendor, discovery)


def _described(host: Host, vendor: Vendor, discovery: Discovery) -> None:
    """Everything that is told of the node can be told."""
    believed, refused = checked(vendor.name, discovery)
    assert refused == ()
    assert believed == discovery
    assert all(is_line(f.reason) and is_line(f.code, 63) for f in discovery.faults)
    for device in discovery.devices:
        if device.parent is None:
            finding = _probe(vendor, device)
            assert all(is_line(f.reason) for f in (*finding.faults, *finding.events))
        for text in (device.product, device.profile, *device.attributes.values()):
            assert text is None or is_line(text), text
    inventory = Inventory(devices=MappingProxyType({d.id: d for d in discovery.devices}))
    read_pci_topology(host, inventory, "eth0")
    for resource in plan_resources(inventory, ()).resources.values():
        listed = pluginapi.ListAndWatchResponse.FromString(encoded_list(resource).message)
        assert [d.ID for d in listed.devices] == sorted({e.id for e in resource.devices})
    json.dumps([str(device) for device in discovery.devices]).encode()
    assert read_boot_id(host)


def _probe(vendor: Vendor, device: Device) -> Finding:
    probe = getattr(vendor, "probe_health")  # noqa: B009  # no part of Vendor
    first, second = probe(device), probe(device)
    assert first.faults == second.faults
    assert second.events == ()
    assert isinstance(first, Finding)
    return first


def _change(source: Source, files: dict[str, bytes | str | None]) -> None:
    """Another content, another target, another name, or nothing at all."""
    paths = sorted(files)
    path = paths[source.number(len(paths)) if paths else 0]
    content, how = files[path], source.number(8)
    odd = source.choice(ODD)
    if how == 0 and len(files) > 1:
        del files[path]
    elif how == 1:
        files[f"{os.path.dirname(path)}/{source.choice(NAMES)}"] = files.pop(path)
    elif isinstance(content, str):
        files[path] = source.choice((*TARGETS, f"{content}x"))
    elif how == 2:
        files[path] = source.line().replace(b"\r", b"\n")
    elif content is not None:
        at = source.number(len(content) + 1)
        files[path] = odd if how < 5 else content[:at] + odd + content[at + 1 :]


def _write(root: Path, path: str, content: bytes | str | None) -> None:
    """What is in the way of another entry is left out: a file is no directory."""
    place = root / path.lstrip("/")
    try:
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)
    except OSError:
        return


@cache
def _amd_trees() -> tuple[Files, ...]:
    host = amd_node.V620_HOST
    made = (
        lambda root: amd_node.write_amd_node(root, amd_node.DEMO_GPUS[:1]),
        lambda root: amd_node.write_amd_node(root, amd_node.DEMO_GPUS[1:]),
        lambda root: amd_node.write_amd_node(root, (), (host,)),
    )
    return (*map(_recorded, sorted((TREES / "amd/trees").glob("*.tree"))), *map(_files, made))


@cache
def _intel_trees() -> tuple[Files, ...]:
    trees = sorted((TREES / "intel/trees").glob("*.tree"))
    made = _files(lambda root: intel_node.write_intel_node(root, intel_node.B60))
    return (*map(_recorded, trees), made)


def _recorded(path: Path) -> Files:
    return _files(lambda root: write_tree(root, path.read_text()))


def _files(write: Callable[[Path], None]) -> Files:
    """What `write` makes, by path."""
    found: dict[str, bytes | str | None] = {}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        for folder, folders, files in os.walk(name):
            for path in (Path(folder) / entry for entry in (*folders, *files)):
                found[f"/{path.relative_to(name)}"] = _entry(path)
    return found


def _entry(path: Path) -> bytes | str | None:
    if path.is_symlink():
        return os.readlink(path)
    return None if path.is_dir() else path.read_bytes()


ODD = (
    *(b"", b"\n", b"0", b"1", b"-1", b"0x0", b"0xffffffffffffffff", b"18446744073709551616"),
    *("²".encode(), b"\xff\xfe", b"\0", b"text", b"a b\nc d", b"\x1b[1m", b"9" * 5000),
    *(b"0x" + b"f" * 5000, b"ue: 1\nce: \xc2\xb2", b"CPX", b"NPS4", b"UNKNOWN", b"critical"),
    *(b"0x1002", b"0x8086", b"0x030000", b"simd_count 4\ndrm_render_minor 128\nlocation_id 9"),
)
NAMES = (
    *("card0", "card²", "renderD128", "renderD²", "renderD" + "9" * 30, "virtfn²", "virtfn0"),
    *("tile0", "tile²", "gt0", "0000:04:00.0", "0000:zz:00.0", "text", "vendor", "0", "²"),
    *("umc_err_count", "temp1_input", "temp²_input", "gpu_health", "physfn", "driver"),
)
TARGETS = (
    *(".", "/", "../../..", "x", "../0000:04:00.1", "../../../bus/pci/drivers/vfio-pci"),
    *("../../../bus/pci/drivers/amdgpu", "../../../bus/pci/drivers/xe", "../../loop"),
    *("../../../kernel/iommu_groups/37", "../../../bus/pci/drivers/i915", "drivers/²"),
)
STEPS = tuple(bytes([number]) for number in range(0, 256, 17))
SURFACES = {
    name: Surface(
        target=target,
        seeds=(*tuple(bytes([tree]) for tree in range(14)), bytes(range(40)), bytes(range(9, 99))),
        words=STEPS,
        examples=150,
    )
    for name, target in (("amd_nodes", amd_nodes), ("intel_nodes", intel_nodes))
}
