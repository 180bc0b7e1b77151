"""What is remembered of events, for how long, and what ends it; and the file that keeps it."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deviceplugin.health.file import (
    FILE,
    MAX_BYTES,
    SavedState,
    read_state,
    saved,
    write_state,
)
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.records import (
    MAX_FAULTS,
    Cordon,
    FaultRecords,
    Record,
    Timestamp,
    after_boot,
    after_reset,
    cordoned,
    forgotten,
    lapsed,
    next_lapse,
    standing,
    with_event,
    with_reset_counter,
)
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import MAX_COUNTED, OTHERS, FaultTracker
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import DeviceID, Fault, FaultClass
from deviceplugin.vendor import Repeat

GPU, PART = DeviceID("GPU-a"), DeviceID("MIG-a")
POLICY = HealthSection(
    event_ttl_s=100,
    repeats={"nvidia.clocks/slow": Repeat(count=6, window_s=600, kind=FaultClass.HARDWARE)},
)


def event(
    kind: FaultClass, code: str = "1", source: str = "nvidia.xid", device: DeviceID = GPU
) -> Fault:
    return Fault(device=device, source=source, code=code, reason="r", action="a", kind=kind)


def told(
    memory: FaultRecords, fault: Fault, now: float = 0.0, boot: str | None = "one"
) -> FaultRecords:
    return with_event(memory, fault, Timestamp(now=now, boot=boot), POLICY)


def kinds(memory: FaultRecords, now: float = 0.0) -> list[FaultClass]:
    return [fault.kind for fault in standing(memory, now, POLICY)]


ALL = [told(FaultRecords(), event(kind)) for kind in FaultClass]


@pytest.mark.parametrize("memory", ALL, ids=list(FaultClass))
def test_the_same_boot_and_an_unknown_boot_end_nothing(memory: FaultRecords) -> None:
    assert after_boot(memory, "one") == memory
    assert after_boot(memory, None) == memory


def test_another_boot_ends_what_a_reset_or_a_reboot_ends() -> None:
    left = [kind for memory in ALL for kind in kinds(after_boot(memory, "two"))]
    assert FaultClass.HARDWARE in left
    assert FaultClass.RESET not in left
    assert FaultClass.REBOOT not in left


def test_a_reset_ends_reset_faults_of_its_device_alone() -> None:
    memory = told(told(FaultRecords(), event(FaultClass.RESET)), event(FaultClass.REBOOT, "79"))
    memory = told(memory, event(FaultClass.RESET, device=PART))
    after = after_reset(memory, {GPU})
    assert {key[:3:2] for key in after.faults} == {(GPU, "79"), (PART, "1")}


def test_a_mark_that_goes_back_is_a_reset_of_the_gpu_and_its_parts() -> None:
    memory = with_reset_counter(FaultRecords(), GPU, 500, [PART])
    memory = told(memory, event(FaultClass.RESET))
    memory = told(memory, event(FaultClass.RESET, device=PART))
    assert len(with_reset_counter(memory, GPU, 600, [PART]).faults) == 2
    assert len(with_reset_counter(memory, GPU, 499, [PART]).faults) == 0


def test_what_takes_nothing_away_lapses_and_the_rest_does_not() -> None:
    left = [kind for memory in ALL for kind in kinds(lapsed(memory, 100.0, POLICY))]
    assert left == [kind for kind in FaultClass if kind.withdraws]
    assert next_lapse(ALL[0], 0.0, POLICY) == 100.0


def test_six_events_in_ten_minutes_take_a_device_and_fewer_do_not() -> None:
    memory, slow = FaultRecords(), event(FaultClass.WARN, "slow", "nvidia.clocks")
    for minute in range(5):
        memory = told(memory, slow, now=60.0 * minute)
        assert kinds(memory, 60.0 * minute) == [FaultClass.WARN]
    memory = told(memory, slow, now=300.0)
    assert kinds(memory, 300.0) == [FaultClass.HARDWARE]
    assert next_lapse(memory, 300.0, POLICY) == 600.0
    assert kinds(memory, 600.0) == [FaultClass.WARN]
    assert kinds(lapsed(memory, 900.0, POLICY)) == []


def test_a_thousand_equal_events_take_the_room_of_one() -> None:
    memory = FaultRecords()
    for number in range(1000):
        memory = told(memory, event(FaultClass.APP, "13"), now=float(number))
    assert len(memory.faults) == 1
    assert len(next(iter(memory.faults.values())).times) == 1


def test_the_number_of_remembered_faults_is_bounded() -> None:
    memory = FaultRecords()
    for number in range(MAX_FAULTS + 10):
        memory = told(memory, event(FaultClass.APP, str(number)))
    assert len(memory.faults) == MAX_FAULTS


def test_in_a_full_memory_what_takes_a_device_away_drives_out_what_was_merely_told() -> None:
    memory = FaultRecords()
    for number in range(MAX_FAULTS):
        memory = told(memory, event(FaultClass.APP, str(number)), now=float(number))
    memory = told(memory, event(FaultClass.REBOOT, "79"), now=float(MAX_FAULTS))
    assert len(memory.faults) == MAX_FAULTS
    codes = {code for _, _, code in memory.faults}
    assert "79" in codes - {"0"}
    assert {"1", str(MAX_FAULTS - 1)} <= codes


def test_the_reboots_that_are_remembered_are_bounded_and_end_with_their_time() -> None:
    memory = FaultRecords()
    for number in range(MAX_FAULTS + 20):  # as instances that come, fail and go
        gone = event(FaultClass.RESET, device=DeviceID(f"MIG-{number}"))
        memory = told(memory, gone, now=float(number))
        memory = after_reset(memory, {gone.device})
    assert len(memory.boots) == MAX_FAULTS
    assert (DeviceID(f"MIG-{number}"), "nvidia.xid", "1") in memory.boots
    memory = told(memory, event(FaultClass.RESET), now=31 * 86400.0)
    assert list(memory.boots) == [(GPU, "nvidia.xid", "1")]
    assert len(saved(memory)) < MAX_BYTES


def test_the_same_reset_fault_after_two_reboots_asks_for_an_inspection() -> None:
    memory, fault = FaultRecords(), event(FaultClass.RESET, "119")
    for boot in ("one", "two"):
        memory = after_boot(memory, boot)
        memory = told(memory, fault, boot=boot)
        memory = told(memory, fault, boot=boot)
        assert kinds(memory) == [FaultClass.RESET]
    memory = told(after_boot(memory, "three"), fault, boot="three")
    (found,) = standing(memory, 0.0, POLICY)
    assert found.kind is FaultClass.HARDWARE
    assert "2 reboots" in found.reason
    assert found.action.startswith("inspect")
    assert kinds(after_boot(memory, "four")) == [FaultClass.HARDWARE]
    assert forgotten(memory, {GPU}) == FaultRecords()


def test_of_many_reboots_those_are_counted_that_escalate_and_no_more() -> None:
    memory, fault = FaultRecords(), event(FaultClass.RESET, "119")
    for number in range(6):
        memory = told(after_boot(memory, str(number)), fault, boot=str(number))
    (found,) = standing(memory, 0.0, POLICY)
    assert found.reason == f"r; it came back after {POLICY.escalate_after_reboots} reboots"


def test_the_same_reading_of_the_reset_counter_changes_nothing() -> None:
    memory = with_reset_counter(told(FaultRecords(), event(FaultClass.RESET)), GPU, 500, [])
    assert with_reset_counter(memory, GPU, 500, []) == memory


def test_an_event_of_an_unknown_boot_is_remembered_without_it() -> None:
    memory = told(FaultRecords(), event(FaultClass.RESET), boot=None)
    assert kinds(memory) == [FaultClass.RESET]
    assert dict(memory.boots) == {}


def test_what_has_lapsed_already_is_no_next_lapse() -> None:
    memory = told(FaultRecords(), event(FaultClass.APP, "13"))
    assert next_lapse(memory, 99.0, POLICY) == 100.0
    assert next_lapse(memory, 100.0, POLICY) is None


def test_reboots_of_long_ago_do_not_escalate() -> None:
    memory, fault = FaultRecords(), event(FaultClass.RESET, "119")
    for number in range(4):
        boot = f"boot-{number}"
        memory = told(after_boot(memory, boot), fault, now=number * 31 * 86400.0, boot=boot)
    assert kinds(memory) == [FaultClass.RESET]


def test_memory_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    memory = with_reset_counter(FaultRecords(), GPU, 500, [])
    for kind in (FaultClass.RESET, FaultClass.REBOOT, FaultClass.HARDWARE):
        memory = told(memory, event(kind, kind))
    memory = cordoned(memory, PART, Cordon(reason="dusty", since=7.0))
    write_state(tmp_path, saved(memory))
    assert read_state(tmp_path).records == memory
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_takes_nothing_away_is_not_kept_in_the_file() -> None:
    memory = told(FaultRecords(), event(FaultClass.WARN))
    assert saved(memory) == saved(FaultRecords())


def test_no_file_is_an_empty_memory(tmp_path: Path) -> None:
    assert read_state(tmp_path) == SavedState()


GOOD = json.loads(saved(told(FaultRecords(), event(FaultClass.RESET))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 40,
        b'{"version": 1, "faults": [{"device"',
        b"[1, 2]",
        json.dumps({**GOOD, "version": 0}).encode(),
        json.dumps({**GOOD, "version": "2"}).encode(),
        json.dumps({**GOOD, "faults": [{**GOOD["faults"][0], "times": []}]}).encode(),
        json.dumps({**GOOD, "faults": [{**GOOD["faults"][0], "kind": "fatal"}]}).encode(),
        b" " * (5 << 20),
    ],
    ids=["empty", "zeros", "cut", "list", "version", "version-text", "no-times", "class", "huge"],
)
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert read_state(tmp_path) == SavedState()
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    assert not (tmp_path / FILE).exists()


def test_a_known_fault_keeps_the_time_when_it_began() -> None:
    memory = told(
        told(FaultRecords(), event(FaultClass.RESET), now=1.0), event(FaultClass.RESET), now=9.0
    )
    (found,) = standing(memory, 9.0, POLICY)
    assert found == replace(event(FaultClass.RESET), since=1.0)


def test_a_full_memory_is_told_once_and_events_are_counted_all_the_same() -> None:
    desk = FaultTracker(InventoryStore(lambda: 100.0), FaultPolicy(), "boot")
    known = event(FaultClass.HARDWARE, "0")
    entry = Record(fault=known, boot="boot", reset_counter=None, times=(100.0,))
    codes = [event(FaultClass.HARDWARE, str(number)) for number in range(MAX_FAULTS)]
    desk.records.set(FaultRecords(faults={f.key: replace(entry, fault=f) for f in codes}))
    desk.event_counts.update({fault.key: 1 for fault in codes[:MAX_COUNTED]})
    with capture_logs() as logs:
        for number in range(3):
            desk.record_event(event(FaultClass.HARDWARE, f"another-{number}"))
            desk.record_event(known)
    assert desk.records.value.faults.keys() == {fault.key for fault in codes}
    assert [entry["event"] for entry in logs] == ["fault_memory_full"]
    assert len(desk.event_counts) == MAX_COUNTED + 1
    assert (desk.event_counts[OTHERS], desk.event_counts[known.key]) == (3, 4)
