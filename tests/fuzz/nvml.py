"""NVML's strings and numbers, through the real pynvml over the C double."""

import re
import tempfile
from functools import cache
from pathlib import Path
from types import MappingProxyType

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.admission import checked
from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.kubelet.wire import container_response, encoded_list
from deviceplugin.model import Inventory
from deviceplugin.resources.plan import plan_resources
from deviceplugin.vendors import nvidia
from tests.fakes.nvml import (
    NvmlDouble,
    Scenario,
    a100_40gb,
    render,
    with_mig,
    with_nvswitch,
    write_host_tree,
)
from tests.fuzz.surface import Source, Surface, is_line

# Keys that say what lines belong together, and counts that no driver tells in such numbers.
KEPT = ("gpu", "index", "mig_max", "init", "type", "counter", "gi_profile", "peer")
VALUE = re.compile(rb'(\w+)=("[^"\n]*"|[^\s"]+)')
NUMBERS = (0, 1, 2, 7, 255, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1)
SECTIONS = decode_sections(
    {"nvidia": {"device_list_strategy": ["envvar", "cdi-cri"], "pass_device_specs": True}},
    nvidia.SECTIONS,
)


def strings(data: bytes) -> None:
    """A node whose driver says something else in a few places: one look at it, whole."""
    root, text = _machine()
    scenario = root / "usr/lib64/nvml-scenario"
    aside = scenario.with_name(".new")
    aside.write_bytes(_changed(Source(data), text))
    aside.rename(scenario)
    vendor = nvidia.create(Host(root), SECTIONS)
    try:
        discovery, refused = checked("nvidia", vendor.discover())
    except VendorError as error:
        assert is_line(str(error)), str(error)
        return
    finally:
        vendor.close()
    assert all(is_line(f.reason) and is_line(f.code, 63) for f in discovery.faults)
    assert all(is_line(claim.reason) for claim in refused)
    for device in discovery.devices:
        told = (device.product, device.profile, discovery.driver_version)
        assert all(text is None or is_line(text) for text in told), told
    inventory = Inventory(devices=MappingProxyType({d.id: d for d in discovery.devices}))
    for resource in plan_resources(inventory, ()).resources.values():
        assert encoded_list(resource).message
    offered = [device for device in discovery.devices if device.resource]
    assert container_response(vendor.container_edits(offered)).ByteSize() > 0 or not offered
    vendor.cdi_specs(discovery.devices)


def _changed(source: Source, text: bytes) -> bytes:
    places = [match for match in VALUE.finditer(text) if match[1].decode() not in KEPT]
    while source:
        match = places[source.number(len(places))]
        if match[2].strip(b'"').isdigit():
            value = str(source.choice(NUMBERS)).encode()
        else:
            value = b'"' + source.line().translate(None, b'"\0')[:90] + b'"'
        text = text[: match.start(2)] + value + text[match.end(2) :]
        places = [match for match in VALUE.finditer(text) if match[1].decode() not in KEPT]
    return text


@cache
def _machine() -> tuple[Path, bytes]:
    """An A100, and one that is cut into MIG instances, on an NVSwitch."""
    folder = tempfile.TemporaryDirectory(prefix="n")
    _folders.append(folder)
    root = Path(folder.name)
    gpus = with_nvswitch([a100_40gb(0), a100_40gb(1)])
    cut = with_mig(gpus[1], ["3g.20gb", "1g.5gb", "1g.5gb+me"])
    scenario = Scenario(gpus=(gpus[0], cut))
    NvmlDouble(root, scenario=scenario)
    write_host_tree(root, scenario)
    return root, render(scenario).encode()


_folders: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends
SURFACES = {
    "nvml": Surface(
        target=strings,
        seeds=(b"", *(bytes([place, 0]) + b"\xff\xfe\x1b[1m,/\xc3\n" for place in range(0, 60, 2))),
        words=(b"\xff", b"\x1b[1m", b",", b"/", b" ", b"\n", b"GPU-1", b"\0\0", b"DGX Display"),
        examples=150,
    )
}
