"""Reports from the field about Intel GPUs, each with its right value."""

from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from deviceplugin.host import Host
from deviceplugin.model import Discovery, FaultClass, Inventory
from deviceplugin.resources.plan import Plan
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel import IntelVendor
from deviceplugin.vendors.intel.health import IntelHealth
from deviceplugin.vendors.intel.settings import IntelSettings, XeSettings
from tests.resources.builders import sharing

BUS = "/sys/bus/pci/devices"
GIB = 1 << 30


def bar2(size: int) -> str:
    """A `resource` file whose third line is a region of this size."""
    unused = "0x0000000000000000 0x0000000000000000 0x0000000000000000"
    line = f"{0x384000000000:#018x} {0x384000000000 + size - 1:#018x} 0x000000000014220c"
    return "\\n".join([unused, unused, line, *[unused] * 10])


def card(address: str, device_id: int, number: int, driver: str = "i915", **files: str) -> str:
    """A GPU with its render and card nodes."""
    at = f"{BUS}/{address}"
    lines = [
        f"{at}/vendor = 0x8086",
        f"{at}/device = {device_id:#06x}",
        f"{at}/class = {files.pop('class_id', '0x030000')}",
        f"{at}/numa_node = -1",
        f"{at}/driver -> ../../../bus/pci/drivers/{driver}",
        f"{at}/drm/renderD{128 + number}/",
        f"{at}/drm/card{number}/",
        f"/dev/dri/renderD{128 + number} c 226:{128 + number}",
        f"/dev/dri/card{number} c 226:{number}",
        *(f"{at}/{name} = {value}" for name, value in files.items()),
    ]
    return "\n".join(lines) + "\n"


def look(root: Path, text: str, told: int | None = None) -> Discovery:
    write_tree(root, text)
    host = Host(root)
    return IntelVendor(
        host=host,
        query=lambda driver, node: told,
        settings=msgspec.convert({}, IntelSettings),
        xe=msgspec.convert({}, XeSettings),
        health=IntelHealth(host),
    ).discover()


def plan(found: Discovery, *rules: dict[str, Any]) -> Plan:
    devices = MappingProxyType({device.id: device for device in found.devices})
    return sharing(*rules).plan(Inventory(devices=devices))


def counts(found: Discovery) -> dict[str, int]:
    return dict(Counter(str(device.resource) for device in found.devices if device.resource))


SLICES = {"match": {"vendor": "intel"}, "offers": [{"memory": {"unit": "1GiB"}}]}
N100 = card("0000:00:02.0", 0x46D1, 0)


def test_an_integrated_gpu_makes_no_slice_and_that_is_said(tmp_path: Path) -> None:
    made = plan(look(tmp_path, N100), SLICES)
    assert not made.resources
    (problem,) = made.problems
    assert (problem.resource, problem.reason) == (
        "intel.com/gpu-memory",
        "GPU 0000:00:02.0 makes no slice of 1GiB: its memory is unknown",
    )


def test_beside_one_that_makes_slices_it_has_its_own_line(tmp_path: Path) -> None:
    b580 = card("0000:04:00.0", 0xE20B, 1, "xe", resource=bar2(256 << 20))
    made = plan(look(tmp_path, N100 + b580), SLICES)
    assert {name: len(r.devices) for name, r in made.resources.items()} == {
        "intel.com/gpu-memory": 12  # by the table: its BAR was not resized
    }
    assert ["0000:00:02.0" in problem.reason for problem in made.problems] == [True]


@pytest.mark.parametrize(
    ("address", "device_id", "bar"),
    [
        ("0000:06:10.0", 0x4680, 512 << 20),
        ("0000:06:10.0", 0xF00D, 512 << 20),
        ("0000:06:10.0", 0xF00D, 1 << 30),
        ("0000:07:00.0", 0xA780, 256 << 20),
        ("0000:00:02.0", 0xF00D, 16 << 30),
        ("0000:00:02.0", 0x64A0, 256 << 20),
    ],
)
def test_the_aperture_of_an_integrated_gpu_is_no_memory(
    tmp_path: Path, address: str, device_id: int, bar: int
) -> None:
    found = look(tmp_path, card(address, device_id, 0, resource=bar2(bar)))
    assert counts(found) == {"intel.com/gpu": 1}
    assert found.devices[0].memory_bytes is None
    assert found.faults == ()


@pytest.mark.parametrize(
    ("device_id", "bar", "memory"),
    [(0xF00D, 16 * GIB, 16 * GIB), (0xF00D, 2 * GIB, 2 * GIB), (0x4905, 4 * GIB, 4 * GIB)],
    ids=["an unknown board", "its smallest", "DG1"],
)
def test_the_bar_of_a_board_is_its_memory(
    tmp_path: Path, device_id: int, bar: int, memory: int
) -> None:
    found = look(tmp_path, card("0000:04:00.0", device_id, 0, resource=bar2(bar)))
    assert found.devices[0].memory_bytes == memory


def test_an_integrated_gpu_can_be_left_out_by_its_address(tmp_path: Path) -> None:
    found = look(tmp_path, card("0000:00:02.0", 0x46A6, 0) + card("0000:03:00.0", 0x5690, 1))
    made = plan(found, {"match": {"pci_address": "0000:00:02.0"}, "offers": ["exclude"]})
    (entry,) = made.resources["intel.com/gpu"].devices  # type: ignore[index]  # a name in a test
    assert entry.device == "0000:03:00.0"


def test_a_gpu_with_a_render_node_alone_is_offered(tmp_path: Path) -> None:
    text = "\n".join(line for line in N100.splitlines() if "/card0" not in line)
    (device,) = look(tmp_path, text).devices
    assert (device.resource, device.nodes) == ("intel.com/gpu", ("/dev/dri/renderD128",))


@pytest.mark.parametrize("driver", ["pci-stub", "pciback", "nouveau"])
def test_a_gpu_in_other_hands_is_information(tmp_path: Path, driver: str) -> None:
    found = look(tmp_path, N100 + card("0000:03:00.0", 0x56A0, 1, driver))
    (fault,) = found.faults
    assert counts(found) == {"intel.com/gpu": 1}
    assert (fault.device, fault.code, fault.kind) == ("0000:03:00.0", "not_bound", FaultClass.INFO)
    assert f"bound to {driver}, not offered" in fault.reason


def test_a_gpu_that_a_virtual_machine_has_is_no_fault(tmp_path: Path) -> None:
    text = card("0000:03:00.0", 0x56A0, 1, "vfio-pci", current_link_width="1", max_link_width="16")
    found = look(tmp_path, N100 + text)
    assert found.faults == ()
    held = next(device for device in found.devices if device.resource is None)
    assert IntelHealth(Host(tmp_path)).probe(held).faults == ()
