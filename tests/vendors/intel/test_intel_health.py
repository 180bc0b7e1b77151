"""How Intel GPUs are, from their files in sysfs."""

from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, FaultClass
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel.health import IntelHealth

ADDRESS = "0000:03:00.0"
AT = f"/sys/bus/pci/devices/{ADDRESS}"
GPU = Device(id=DeviceID(ADDRESS), vendor="intel", pci_address=ADDRESS)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], set()),
        (["gpu_health = ok"], set()),
        (["gpu_health = warning"], {("intel.gpu_health", "warning", FaultClass.WARN)}),
        (["gpu_health = critical"], {("intel.gpu_health", "critical", FaultClass.HARDWARE)}),
        (["gpu_health = odd"], {("intel.gpu_health", "warning", FaultClass.WARN)}),
        (
            ["current_link_width = 4", "max_link_width = 8"],
            {("intel.pcie", "link_width", FaultClass.WARN)},
        ),
        (
            ["hwmon/hwmon1/temp2_input = 130000", "hwmon/hwmon1/temp2_emergency = 125000"],
            {("intel.thermal", "temp2_emergency", FaultClass.HARDWARE)},
        ),
    ],
    ids=["nothing", "ok", "warning", "critical", "odd", "link", "heat"],
)
def test_a_reading_is_a_fault(
    tmp_path: Path, lines: list[str], expected: set[tuple[str, str, FaultClass]]
) -> None:
    write_tree(tmp_path, "\n".join(f"{AT}/{line}" for line in lines))
    finding = IntelHealth(Host(tmp_path)).probe(GPU)
    assert {(f.source, f.code, f.kind) for f in finding.faults} == expected


def test_a_fatal_bus_error_is_an_event_once(tmp_path: Path) -> None:
    health = IntelHealth(Host(tmp_path))
    for count, events in ((3, 0), (4, 1), (4, 0)):
        write_tree(tmp_path, f"{AT}/aer_dev_fatal = DLP {count}\\nTOTAL_ERR_FATAL {count}")
        assert len(health.probe(GPU).events) == events
