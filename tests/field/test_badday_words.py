"""A bad day's single pieces: levels of the log, one entry for one cause, the words of `health`."""

import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from deviceplugin.cli.health import health_text, in_colour, is_unhealthy, show_health
from deviceplugin.cli.tables import report_text
from deviceplugin.errors import ConfigError
from deviceplugin.faults import HEALTH_UNREADABLE
from deviceplugin.health.operations import HealthOperations, HealthRequest
from deviceplugin.health.policy import FaultPolicy
from deviceplugin.health.records import OPERATOR, FaultRecords, Timestamp, with_event
from deviceplugin.health.report import Uses, cleared_by, health_report
from deviceplugin.health.section import HealthSection
from deviceplugin.health.tracker import FaultTracker
from deviceplugin.inventory.changes import OPERATOR_SOURCE, levelled
from deviceplugin.inventory.conditions import RECOVERING, SOURCE
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Health,
    Inventory,
    Preference,
    Resource,
    ResourceName,
    VendorStatus,
)
from deviceplugin.placement.asked import Asked, preference_asked
from deviceplugin.placement.view import Context
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.report import kept_of, report
from deviceplugin.runtime.control import ControlError, NoDaemonError, ask_daemon

NAME = ResourceName("nvidia.com/gpu")
GPU = Device(
    id=DeviceID("GPU-1"),
    vendor="nvidia",
    product="A100",
    resource=NAME,
    index=3,
    pci_address="0000:1f:00.0",
)
TWO = replace(GPU, id=DeviceID("GPU-2"), index=4, pci_address="0000:2f:00.0")
PART = Device(
    id=DeviceID("MIG-1"), vendor="nvidia", product="A100", parent=GPU.id, profile="1g.5gb"
)
LOST = Fault(
    device=GPU.id,
    source="nvidia.nvml",
    code="gpu_lost",
    reason="GPU is lost",
    kind=FaultClass.REBOOT,
    action="reboot the node",
)
HELD = (("ml", "train", "main"), NAME, GPU.id)


def fault(kind: FaultClass, source: str = "x.y", code: str = "z") -> Fault:
    return replace(LOST, kind=kind, source=source, code=code)


def having(*faults: Fault, devices: Iterable[Device] = (GPU, PART, TWO)) -> Inventory:
    store = InventoryStore(lambda: 60.0)
    store.set_devices("nvidia", devices)
    store.set_status(VendorStatus(name="nvidia", driver_version="1"))
    store.set_status(VendorStatus(name="amd", error="no AMD GPU"))
    store.set_faults("nvidia:all", faults)
    return store.current


WELL = having()


def loud(before: Inventory, after: Inventory) -> list[tuple[str, str]]:
    return [(level, name) for level, (name, _) in levelled(before, after) if level != "info"]


@pytest.mark.parametrize(
    ("begun", "level"),
    [
        (fault(FaultClass.REBOOT), "error"),
        (fault(FaultClass.HARDWARE), "error"),
        (fault(FaultClass.SETUP), "error"),
        (fault(FaultClass.WARN), "warning"),
        (fault(FaultClass.INFO), "info"),
        (fault(FaultClass.APP), "info"),
        (fault(FaultClass.RESET, SOURCE, RECOVERING), "info"),
        (fault(FaultClass.SETUP, OPERATOR, "cordon"), "info"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.kind}-{value.source}",
)
def test_a_fault_is_logged_by_what_it_does(begun: Fault, level: str) -> None:
    levels = {name: how for how, (name, _) in levelled(WELL, having(begun))}
    assert levels["fault"] == level
    assert {how for how, _ in levelled(having(begun), WELL)} == {"info"}


def test_the_source_of_an_order_is_the_one_of_cordons() -> None:
    assert OPERATOR_SOURCE == OPERATOR


def test_a_lost_gpu_is_one_loud_line() -> None:
    assert loud(WELL, having(LOST)) == [("error", "fault")]


def test_a_driver_that_is_gone_is_one_loud_line_with_every_device() -> None:
    gone = [replace(LOST, device=device.id) for device in (GPU, PART, TWO)]
    assert loud(WELL, having(*gone)) == [("error", "fault")]
    (fields,) = [fields for _, (name, fields) in levelled(WELL, having(*gone)) if name == "fault"]
    assert (fields["device"], fields["devices"]) == (GPU.id, [GPU.id, TWO.id, PART.id])


def test_a_gpu_that_is_taken_out_is_a_warning_and_a_partition_is_not() -> None:
    assert loud(WELL, having(devices=(GPU, PART))) == [("warning", "device_gone")]
    assert loud(WELL, having(devices=(GPU, TWO))) == []


def test_a_device_that_is_found_with_an_old_fault_is_unhealthy_loudly() -> None:
    before = having(LOST, devices=())
    assert ("error", "device_unhealthy") in loud(before, having(LOST))


def test_unreadable_health_is_no_second_fault_of_a_lost_gpu() -> None:
    unread = HEALTH_UNREADABLE.fault(GPU.id, "nvidia.probe", "GPU is lost")
    assert having(LOST, unread).faults[GPU.id] == having(LOST).faults[GPU.id]
    assert [f.code for f in having(unread).faults[GPU.id]] == [HEALTH_UNREADABLE.code]


def shown(inventory: Inventory, *held: tuple[tuple[str, str, str], ResourceName, DeviceID]) -> str:
    entry = AdvertisedDevice(
        id=AdvertisedID("GPU-1"), device=GPU.id, health=inventory.health_of(GPU)
    )
    listed = {NAME: Resource(name=NAME, vendor="nvidia", devices=(entry,))}
    answer = health_report(inventory, FaultRecords(), Uses(lambda: held, lambda: listed))
    return health_text({**answer, "notices": []})


def test_health_shows_each_cause_once() -> None:
    assert shown(having(LOST, replace(LOST, device=PART.id)), HELD) == (
        "DEVICE   PRODUCT  PCI           RESOURCE        CONDITION  HELD BY\n"
        "GPU-1    A100     0000:1f:00.0  nvidia.com/gpu  unhealthy  ml/train\n"
        "  MIG-1  1g.5gb   -             -               unhealthy  -\n"
        "GPU-2    A100     0000:2f:00.0  -               healthy    -\n"
        "\n"
        "without devices: amd (no AMD GPU)\n"
        "\n"
        "reboot: GPU-1: GPU is lost (nvidia.nvml/gpu_lost)\n"
        "  held by:    ml/train\n"
        "  since:      1970-01-01 00:01:00Z\n"
        "  do:         reboot the node\n"
        "  cleared by: the action above; it ends as soon as nvidia.nvml does not report it any more"
    )


def test_many_devices_of_one_cause_are_counted() -> None:
    many = [replace(GPU, id=DeviceID(f"GPU-{n:02}"), pci_address=None) for n in range(20)]
    faults = [replace(LOST, device=device.id) for device in many]
    text = shown(having(*faults, devices=many))
    assert text.count("reboot: 20 devices (GPU-00, GPU-01") == 1
    assert "and 8 more)" in text


def test_a_device_that_is_gone_and_held_is_shown() -> None:
    inventory = having(devices=(TWO,))
    text = shown(inventory, HELD)
    assert "gone       ml/train" in text
    assert "it is not on the node any more, and pods still hold it" in text
    listed = {NAME: Resource(name=NAME, vendor="nvidia")}
    answer = health_report(inventory, FaultRecords(), Uses(lambda: [HELD], lambda: listed))
    assert is_unhealthy(answer)


def test_a_device_that_was_not_looked_for_yet_is_not_gone() -> None:
    answer = health_report(Inventory(), FaultRecords(), Uses(lambda: [HELD]))
    assert answer["devices"] == []


def test_on_a_node_without_devices_every_vendor_says_why() -> None:
    assert shown(having(devices=())) == "amd: no AMD GPU"


@pytest.mark.parametrize(
    ("told", "end"),
    [
        (LOST, "the action above; it ends as soon as nvidia.nvml does not report it any more"),
        (
            replace(LOST, action="none: it becomes well by itself"),
            "itself, as soon as nvidia.nvml does not report it any more",
        ),
    ],
)
def test_what_clears_a_fault_never_contradicts_what_to_do(told: Fault, end: str) -> None:
    assert cleared_by(FaultRecords(), told) == end


def test_a_recorded_setup_fault_ends_by_an_operator_as_it_never_lapses() -> None:
    at = Timestamp(now=1.0, boot=None)
    setup = fault(FaultClass.SETUP)
    records = with_event(FaultRecords(), setup, at, HealthSection())
    assert cleared_by(records, setup) == (
        "an operator: deviceplugin uncordon GPU-1 --forget-faults"
    )


def test_conditions_have_colours() -> None:
    text = in_colour(shown(having(LOST)))
    assert click.style("unhealthy", fg="red", bold=True) in text
    assert click.style("healthy", fg="green") in text
    assert click.unstyle(text) == shown(having(LOST))


@pytest.mark.parametrize(
    ("terminal", "variable", "colour"),
    [
        (True, "", True),
        (True, "1", False),
        (False, "", False),
    ],
)
def test_colours_are_for_terminals_and_no_color_ends_them(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    variable: str,
    colour: bool,
) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    answer = health_report(having(LOST), FaultRecords())
    assert show_health(lambda: answer, "table", watch=False) is False
    assert ("\x1b[" in capsys.readouterr().out) is colour


def test_a_watch_shows_what_changes_until_no_daemon_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = [health_report(i, FaultRecords()) for i in (WELL, WELL, having(LOST), WELL)]

    def answer() -> dict[str, object]:
        if not answers:
            raise NoDaemonError("no daemon answers")
        return answers.pop(0)

    with pytest.raises(NoDaemonError):
        show_health(answer, "table", watch=True, wait_s=0)
    shown = capsys.readouterr().out
    assert shown.count("DEVICE ") == 3
    assert shown.count("GPU is lost") == 1


async def test_a_device_is_named_by_index_and_near_misses_are_proposed() -> None:
    store = InventoryStore(lambda: 1.0)
    store.set_devices("nvidia", [GPU, PART, TWO])
    store.set_devices("amd", [replace(TWO, id=DeviceID("amd-4"), vendor="amd", pci_address=None)])
    orders = HealthOperations(store, FaultTracker(store, FaultPolicy(), None)).table()
    cordon = orders["cordon"].answer

    def request(device: str) -> HealthRequest:
        return HealthRequest(operation="cordon", device=device, reason="r")

    assert await cordon(request("3")) == {"device": "GPU-1"}
    with pytest.raises(
        ControlError, match=r"'4' names several devices: GPU-2 \(nvidia\), amd-4 \(amd\)"
    ):
        await cordon(request("4"))
    with pytest.raises(ControlError, match=r"no device 'GPU-11', did you mean GPU-1\?"):
        await cordon(request("GPU-11"))


def test_a_long_list_of_devices_is_not_cut_inside_an_id() -> None:
    store = InventoryStore(lambda: 1.0)
    store.set_devices("nvidia", [replace(GPU, id=DeviceID(f"GPU-{n:050}")) for n in range(99)])
    order = HealthOperations(store, FaultTracker(store, FaultPolicy(), None))
    with pytest.raises(ControlError, match=r"and 89 more \(deviceplugin health lists them\)"):
        order._device(HealthRequest(operation="cordon", device="x"))


def test_discover_says_why_capacity_is_more_than_allocatable() -> None:
    def listed(*entries: AdvertisedDevice) -> dict[ResourceName, Resource]:
        return {NAME: Resource(name=NAME, vendor="nvidia", devices=entries)}

    def entry(device: DeviceID, reason: str | None = None) -> AdvertisedDevice:
        advertised = AdvertisedID(device)
        return AdvertisedDevice(
            id=advertised, device=device, health=Health.UNHEALTHY, reason=reason
        )

    resources = listed(
        entry(GPU.id),
        entry(TWO.id, "in_use_as nvidia.com/gpu-memory"),
        entry(DeviceID("GPU-9")),
    )
    text = report_text(report("node-1", having(LOST), Plan(resources=resources), resources))
    assert "nvidia.com/gpu: 1 not allocatable: GPU-1 is Unhealthy" in text
    assert "GPU-2 is in use as nvidia.com/gpu-memory" in text
    assert "GPU-9 is gone; its id stays until no pod can hold it any more" in text


def kept_ids(*devices: str) -> dict[ResourceName, Resource]:
    entries = tuple(
        AdvertisedDevice(id=AdvertisedID(d), device=DeviceID(d), health=Health.UNHEALTHY)
        for d in devices
    )
    return {NAME: Resource(name=NAME, vendor="nvidia", devices=entries)}


def test_many_devices_that_are_gone_are_one_line() -> None:
    resources = kept_ids(*(f"MIG-9{number}" for number in range(7)))
    text = report_text(report("node-1", having(), Plan(resources=resources), resources))
    line = "nvidia.com/gpu: 7 not allocatable: MIG-90, MIG-91 and 5 more are gone; their ids stay"
    assert f"{line} until no pod can hold them any more" in text


def test_health_has_what_no_fault_says() -> None:
    inventory = having(LOST)
    listed = kept_ids(GPU.id, TWO.id, "GPU-9")
    kept = kept_of(inventory, listed)
    assert [(k["resource"], k["ids"]) for k in kept] == [(NAME, 1), (NAME, 1)]
    problems = [{"resource": "a/b", "reason": "no slice", "action": "a smaller unit"}]
    uses = Uses(problems=lambda: problems, kept=lambda: kept)
    text = health_text(health_report(inventory, FaultRecords(), uses))
    assert "refused: a/b: no slice\n  do: a smaller unit" in text
    assert "nvidia.com/gpu: 1 not allocatable: GPU-9 is gone; its id stays" in text
    assert "GPU-2 is not offered as this any more" in text
    assert "not allocatable: GPU-1" not in text


def test_explain_takes_what_is_healthy_and_free() -> None:
    entries = tuple(
        AdvertisedDevice(id=AdvertisedID(i), device=DeviceID(i), health=health)
        for i, health in (("a", Health.HEALTHY), ("b", Health.HEALTHY), ("c", Health.UNHEALTHY))
    )
    resource = Resource(name=NAME, vendor="nvidia", devices=entries)
    asked = Asked(resource=NAME, size=1, available=None, must_include=(), policy=None)

    def preferred(question: Asked) -> Preference:
        return preference_asked(question, resource, {AdvertisedID("a")}, Context())

    assert preferred(asked).available == {"b"}
    with pytest.raises(ConfigError, match="--size: 99 is not valid, expected at most 1: "):
        preferred(replace(asked, size=99))


def test_without_a_daemon_there_is_a_hint(tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError, match=r"none runs on this node .*--state-dir"):
        ask_daemon(tmp_path, {"operation": "health"})
