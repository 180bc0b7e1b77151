"""How AMD GPUs are, from their files in sysfs: appears, and clears."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, FaultClass, ResourceName
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors.amd.health import AmdHealth, parse_bad_pages, parse_counter

ADDRESS = "0000:63:00.0"
AT = f"/sys/bus/pci/devices/{ADDRESS}"
GPU = Device(id=DeviceID("amd-1"), vendor="amd", pci_address=ADDRESS)
WELL = f"""
{AT}/current_link_width = 16
{AT}/max_link_width = 16
{AT}/aer_dev_fatal = Undefined 0\\nDLP 0\\nTOTAL_ERR_FATAL 0
{AT}/aer_dev_nonfatal = Undefined 0\\nTOTAL_ERR_NONFATAL 0
{AT}/ras/umc_err_count = ue: 0\\nce: 4
{AT}/ras/gfx_err_count = ue: 0\\nce: 0
{AT}/ras/gpu_vram_bad_pages = 0x00000001 : 0x00001000 : R
{AT}/hwmon/hwmon3/temp1_input = 61000
{AT}/hwmon/hwmon3/temp1_crit = 100000
{AT}/hwmon/hwmon3/temp1_emergency = 105000
{AT}/hwmon/hwmon3/temp1_label = junction
"""


@pytest.fixture
def probe(tmp_path: Path) -> AmdHealth:
    write_tree(tmp_path, WELL)
    health = AmdHealth(Host(tmp_path))
    assert health.probe(GPU).faults == ()
    return health


@pytest.mark.parametrize(
    ("change", "standing", "events"),
    [
        (
            "ras/umc_err_count = ue: 1\\nce: 4",
            {("amd.ras", "uncorrectable", FaultClass.WARN)},
            {("amd.ras", "umc_uncorrectable", FaultClass.RESET)},
        ),
        ("ras/gfx_err_count = ue: 0\\nce: 9", set(), set()),
        ("ras/gfx_err_count = what is this", set(), set()),
        (
            "ras/gpu_vram_bad_pages = 0x1 : 0x1000 : R\\n0x2 : 0x1000 : F",
            {("amd.ras", "bad_page_failed", FaultClass.HARDWARE)},
            set(),
        ),
        (
            "ras/gpu_vram_bad_pages = 0x1 : 0x1000 : P",
            {("amd.ras", "bad_page_pending", FaultClass.WARN)},
            set(),
        ),
        ("current_link_width = 8", {("amd.pcie", "link_width", FaultClass.WARN)}, set()),
        (
            "aer_dev_fatal = DLP 1\\nTOTAL_ERR_FATAL 1",
            set(),
            {("amd.pcie", "aer_fatal", FaultClass.RESET)},
        ),
        (
            "aer_dev_nonfatal = TOTAL_ERR_NONFATAL 2",
            set(),
            {("amd.pcie", "aer_nonfatal", FaultClass.WARN)},
        ),
        (
            "hwmon/hwmon3/temp1_input = 101000",
            {("amd.thermal", "junction_critical", FaultClass.WARN)},
            set(),
        ),
        (
            "hwmon/hwmon3/temp1_input = 105000",
            {("amd.thermal", "junction_emergency", FaultClass.HARDWARE)},
            set(),
        ),
    ],
)
def test_a_reading_is_a_fault_and_clears_with_it(
    tmp_path: Path,
    probe: AmdHealth,
    change: str,
    standing: set[tuple[str, str, FaultClass]],
    events: set[tuple[str, str, FaultClass]],
) -> None:
    write_tree(tmp_path, f"{AT}/{change}")
    found = probe.probe(GPU)
    assert {(f.source, f.code, f.kind) for f in found.faults} == standing
    assert {(f.source, f.code, f.kind) for f in found.events} == events
    assert all(f.reason and f.action for f in (*found.faults, *found.events))
    assert probe.probe(GPU).events == ()
    write_tree(tmp_path, WELL)
    assert probe.probe(GPU).faults == ()


def test_errors_of_before_our_time_are_told_and_are_no_event(tmp_path: Path) -> None:
    write_tree(tmp_path, WELL + f"\n{AT}/ras/umc_err_count = ue: 7\\nce: 4")
    found = AmdHealth(Host(tmp_path)).probe(GPU)
    assert [f.kind for f in found.faults] == [FaultClass.WARN]
    assert found.events == ()


def test_the_mark_falls_when_the_driver_is_loaded_anew(tmp_path: Path, probe: AmdHealth) -> None:
    assert probe.probe(GPU).reset_counter == 4
    write_tree(tmp_path, f"{AT}/ras/umc_err_count = ue: 0\\nce: 0")
    assert probe.probe(GPU).reset_counter == 0


def test_a_gpu_that_reads_as_ones_fell_off_the_bus(tmp_path: Path, probe: AmdHealth) -> None:
    config = tmp_path / AT.lstrip("/") / "config"
    config.write_bytes(b"\x02\x10\xa1\x74")
    assert probe.probe(GPU).faults == ()
    config.write_bytes(b"\xff" * 64)
    assert [(f.code, f.kind) for f in probe.probe(GPU).faults] == [
        ("off_the_bus", FaultClass.REBOOT)
    ]


def test_files_that_are_absent_are_no_fault(tmp_path: Path, probe: AmdHealth) -> None:
    remove(tmp_path, AT)
    found = probe.probe(GPU)
    assert (found.faults, found.events, found.reset_counter) == ((), (), None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ue: 1\nce: 2", (1, 2)), ("ue: 0\nce: 0\nde: 3", (0, 0)), ("", None), ("ue: x\nce: 1", None)],
)
def test_counters_are_parsed(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_counter(text) == expected


def test_bad_pages_are_counted_by_flag() -> None:
    text = "0x1 : 0x1000 : R\n0x2 : 0x1000 : P\n\nnonsense\n0x3 : 0x1000 : F\n0x4 : 0x1000 : R"
    assert parse_bad_pages(text) == {"R": 2, "P": 1, "F": 1}


def test_a_gpu_that_kfd_shows_no_more_is_taken_away_until_it_is_back(probe: AmdHealth) -> None:
    seen = replace(GPU, resource=ResourceName("amd.com/gpu"), architecture="gfx942")
    gone = replace(seen, architecture=None)
    divided = replace(gone, resource=None)

    def codes(device: Device) -> list[str]:
        return [fault.code for fault in probe.probe(device).faults]

    assert codes(gone) == []
    assert [codes(d) for d in (seen, gone, seen)] == [[], ["node_gone"], []]
    assert [codes(d) for d in (divided, gone)] == [[], []]
