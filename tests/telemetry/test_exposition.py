"""What /metrics shows of a view, read back by Prometheus' own parsers."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from deviceplugin.metrics.openmetrics import openmetrics_text, wants_openmetrics
from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.telemetry.metrics import Known, Shown, TelemetryCollector
from deviceplugin.telemetry.model import DeviceView, Owner, ProcessUse, Reading, TelemetryView

NOW = 1000.0
WHOLE = Device(
    id=DeviceID("GPU-0"),
    vendor="nvidia",
    index=3,
    pci_address="0000:17:00.0",
    product='A "quoted" GPU',
)
PART = Device(
    id=DeviceID("MIG-0"),
    vendor="nvidia",
    parent=WHOLE.id,
    index=1,
    ordinal="3:1",
    pci_address=WHOLE.pci_address,
    product=WHOLE.product,
    profile="1g.5gb",
    attributes={"gpu_instance": "7"},
)
A = Owner(namespace="ml", pod="train-a", container="main")
B = Owner(namespace="ml", pod="train-b", container="main")
RESOURCE = ResourceName("nvidia.com/gpu")


def reading(metric: str, value: float, **labels: str) -> Reading:
    return Reading(
        metric=metric, device=WHOLE.id, value=value, at=NOW - 4, labels=tuple(labels.items())
    )


def view_of(*devices: DeviceView, **changes: Any) -> TelemetryView:
    table = {one.device.id: one for one in devices}
    return TelemetryView(interval_s=10, devices=table, **changes)


def whole(*readings: Reading, holders: tuple[Owner, ...] = ()) -> DeviceView:
    held = tuple((owner, RESOURCE) for owner in holders)
    return DeviceView(device=WHOLE, up=True, seen_at=NOW - 4, readings=readings, holders=held)


def text_of(view: TelemetryView, shown: Shown | None = None, known: Known | None = None) -> str:
    shown, known = shown or Shown(), known or Known()
    collector = TelemetryCollector(lambda: view, lambda: known, lambda: shown, lambda: NOW)
    return "".join(f"{line}\n" for family in collector.collect() for line in family.lines())


def samples(text: str, name: str) -> list[tuple[Mapping[str, str], float]]:
    """Of one name; the parser gives counters their suffix."""
    names = (name, f"{name}_total")
    return [(s.labels, s.value) for f in parse(text) for s in f.samples if s.name in names]


POWER = "deviceplugin_gpu_power_watts"


def test_a_reading_has_the_common_labels_and_its_own() -> None:
    text = text_of(view_of(whole(reading("clock_hertz", 1.5e9, clock="sm"))))
    ((labels, value),) = samples(text, "deviceplugin_gpu_clock_hertz")
    assert value == 1.5e9
    assert labels == {
        "vendor": "nvidia",
        "uuid": "GPU-0",
        "index": "3",
        "pci": "0000:17:00.0",
        "model": 'A "quoted" GPU',
        "partition": "",
        "clock": "sm",
    }


def test_a_partition_is_named_and_has_the_index_of_its_gpu() -> None:
    text = text_of(view_of(whole(), DeviceView(device=PART, up=True, seen_at=NOW)))
    labels = [labels for labels, _ in samples(text, "deviceplugin_gpu_up")]
    assert [(one["uuid"], one["index"], one["partition"]) for one in labels] == [
        ("GPU-0", "3", ""),
        ("MIG-0", "3", "3:1"),
    ]


@pytest.mark.parametrize(
    ("holders", "pods", "named"),
    [((A,), True, "train-a"), ((A, B), True, None), ((A,), False, None), ((), True, None)],
    ids=["one holder", "several", "names are not shown", "nobody"],
)
def test_the_one_holder_is_named(holders: tuple[Owner, ...], pods: bool, named: str | None) -> None:
    text = text_of(view_of(whole(reading("power_watts", 5), holders=holders)), Shown(pods=pods))
    ((labels, _),) = samples(text, POWER)
    assert labels.get("pod") == named


def test_a_lost_gpu_keeps_up_and_when_it_was_seen() -> None:
    lost = DeviceView(device=WHOLE, up=False, seen_at=700.0)
    text = text_of(view_of(lost))
    assert [v for _, v in samples(text, "deviceplugin_gpu_up")] == [0]
    seen = samples(text, "deviceplugin_gpu_last_seen_timestamp_seconds")
    assert [v for _, v in seen] == [700]
    assert samples(text, "deviceplugin_gpu_reading_age_seconds") == []


def test_readings_have_an_age() -> None:
    text = text_of(view_of(whole(reading("power_watts", 5))))
    assert [v for _, v in samples(text, "deviceplugin_gpu_reading_age_seconds")] == [4]


def test_xids_wedges_and_resets_are_counters() -> None:
    known = Known(
        events={
            ("GPU-0", "nvidia.xid", "79"): 2,
            ("GPU-0", "nvidia.wedged", "rebind"): 1,
            ("GPU-9", "nvidia.xid", "31"): 5,
            ("GPU-0", "nvidia.clocks", "power_brake"): 7,
        },
        resets={WHOLE.id: 3},
    )
    text = text_of(view_of(whole()), known=known)
    ((labels, value),) = samples(text, "deviceplugin_gpu_xid_errors_total")
    assert (labels["code"], value) == ("79", 2)
    assert [v for _, v in samples(text, "deviceplugin_gpu_wedged_total")] == [1]
    assert [v for _, v in samples(text, "deviceplugin_gpu_resets_total")] == [3]


def use(pid: int, owner: Owner | None, memory: int, share: float | None = None) -> ProcessUse:
    return ProcessUse(
        pid=pid, device=WHOLE.id, owner=owner, memory_bytes=memory, utilization_ratio=share
    )


def test_on_a_shared_gpu_each_pod_has_its_part() -> None:
    processes = (use(1, A, 10, 0.5), use(2, A, 20, 0.25), use(3, B, 40), use(4, None, 80))
    text = text_of(view_of(whole(holders=(A, B)), processes=processes))
    memory = samples(text, "deviceplugin_gpu_pod_memory_used_bytes")
    assert {labels["pod"]: value for labels, value in memory} == {
        "train-a": 30,
        "train-b": 40,
        "": 80,
    }
    shares = samples(text, "deviceplugin_gpu_pod_utilization_ratio")
    assert {labels["pod"]: value for labels, value in shares} == {"train-a": 0.75}
    counts = samples(text, "deviceplugin_gpu_processes")
    assert {labels["owned"]: value for labels, value in counts} == {"true": 3, "false": 1}


DCGM = "DCGM_FI_DEV_POWER_USAGE"


def test_other_exporters_names_are_shown_where_asked_for() -> None:
    readings = (
        reading("power_watts", 312.5),
        reading("memory_used_bytes", 3 << 20),
        reading("temperature_celsius", 64, sensor="gpu"),
        reading("temperature_celsius", 52, sensor="memory"),
        reading("utilization_ratio", 0.97, engine="compute"),
        reading("energy_joules_total", 12.5),
        reading("clock_hertz", 1.485e9, clock="sm"),
    )
    view = view_of(whole(*readings, holders=(A,)))
    assert "DCGM" not in text_of(view)
    shown = Shown(compatibility=("dcgm", "accelerator"))
    text = text_of(view, shown, Known(node="node-1", drivers={"nvidia": "580.1"}))
    values = {name: samples(text, name)[0][1] for name in EXPECTED}
    assert values == pytest.approx(EXPECTED)
    labels = samples(text, DCGM)[0][0]
    assert labels["gpu"] == "3"
    assert labels["UUID"] == "GPU-0"
    assert labels["pci_bus_id"] == "00000000:17:00.0"
    assert labels["Hostname"] == labels["hostname"] == "node-1"
    assert labels["pod"] == "train-a"


EXPECTED = {
    DCGM: 312.5,
    "DCGM_FI_DEV_FB_USED": 3,
    "DCGM_FI_DEV_GPU_TEMP": 64,
    "DCGM_FI_DEV_MEMORY_TEMP": 52,
    "DCGM_FI_DEV_GPU_UTIL": 97,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 12500,
    "DCGM_FI_DEV_SM_CLOCK": 1485,
    "accelerator_memory_used_bytes": 3 << 20,
    "accelerator_temperature_celsius": 64,
    "accelerator_gpu_utilization": 97,
    "accelerator_sm_clock_hertz": 1.485e9,
}


@pytest.mark.parametrize(
    ("vendor", "family", "name", "value"),
    [
        ("amd", "amd", "gpu_package_power", 312.5),
        ("intel", "xpumd", "hw_power_watts", 312.5),
        ("amd", "dcgm", "DCGM_FI_DEV_POWER_USAGE", None),
    ],
)
def test_a_name_is_for_its_vendor(vendor: str, family: str, name: str, value: float | None) -> None:
    device = replace(WHOLE, vendor=vendor)
    view = replace(whole(reading("power_watts", 312.5)), device=device)
    text = text_of(view_of(view), Shown(compatibility=(family,)))
    assert [v for _, v in samples(text, name)] == ([] if value is None else [value])


def test_the_document_is_openmetrics_for_who_asks() -> None:
    known = Known(resets={WHOLE.id: 3})
    readings = (reading("pcie_replays_total", 2), reading("power_watts", 5))
    text = text_of(view_of(whole(*readings)), Shown(compatibility=("dcgm",)), known)
    families = {f.name: f for f in parse_open(openmetrics_text(text))}  # type: ignore[no-untyped-call]  # as it is
    assert families["deviceplugin_gpu_resets"].type == "counter"
    assert families["deviceplugin_gpu_resets"].samples[0].value == 3
    assert families["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"].type == "unknown"
    assert families[POWER].samples[0].value == 5


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", True),
        ("Application/OpenMetrics-Text", True),
        ("text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("", False),
    ],
)
def test_who_accepts_openmetrics_gets_it(accept: str, wanted: bool) -> None:
    head = f"GET /metrics HTTP/1.1\r\nHost: x\r\nACCEPT: {accept}\r\n\r\n".encode()
    assert wants_openmetrics(head) is wanted
