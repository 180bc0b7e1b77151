"""What counters of three vendors come to, and what they do not tell."""

from typing import Any

import pytest

from deviceplugin.documents.profiling import METRICS as NAMED
from deviceplugin.model import Device, DeviceID
from deviceplugin.profiling.figures import METRICS, figures_of
from deviceplugin.telemetry.model import DeviceView, Reading

H200 = "NVIDIA H200"


def view(vendor: str, product: str, engines: dict[str, float], **own: Any) -> DeviceView:
    device = Device(
        id=DeviceID("GPU-0"),
        vendor=vendor,
        product=product,
        parent=own.get("parent"),
        attributes=own.get("attributes", {}),
    )
    readings = tuple(
        Reading(
            metric="utilization_ratio",
            device=device.id,
            value=value,
            at=1.0,
            labels=(("engine", engine),),
        )
        for engine, value in engines.items()
    )
    return DeviceView(device=device, up=own.get("up", True), seen_at=1.0, readings=readings)


GPM = {"compute": 0.9, "memory": 0.5, "graphics": 0.8, "dram": 0.25}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view("nvidia", H200, GPM), (9.0, None, 0.9, 1.2e12)),
        (view("nvidia", "Tesla T4", {"compute": 0.5, "memory": 0.4}), (5.0, None, 0.5, None)),
        (view("nvidia", "GPU of tomorrow", GPM), (9.0, None, 0.9, None)),
        (
            view("nvidia", "GPU of tomorrow", GPM, attributes={"memory_bandwidth": "8000 GB/s"}),
            (9.0, None, 0.9, 2e12),
        ),
        (view("nvidia", H200, {"graphics": 0.3}), (3.0, None, 0.3, None)),
        (view("nvidia", H200, GPM, parent=DeviceID("GPU")), (9.0, None, 0.9, None)),
        (
            view("amd", "AMD Instinct MI300X", {"compute": 1.0, "memory": 0.5}),
            (10.0, None, 1.0, 2.65e12),
        ),
        (
            view("intel", "Intel Data Center GPU Max 1100", {"compute": 0.5, "copy": 0.1}),
            (5.0, 1.0, 0.5, None),
        ),
        (view("intel", "Intel Arc B580", {"awake": 0.7}), (None, None, None, None)),
        (view("nvidia", H200, GPM, up=False), (None, None, None, None)),
        (view("nvidia", H200, {"compute": 0.0, "dram": 0.0}), (0.0, None, 0.0, 0.0)),
    ],
    ids=[
        *("hopper", "before-hopper", "unknown-product", "told-by-the-driver", "graphics-alone"),
        *("instance", "amd", "intel-pmu", "intel-awake", "silent", "idle"),
    ],
)
def test_figures_are_what_counters_tell(
    seen: DeviceView, expected: tuple[float | None, ...]
) -> None:
    found = figures_of(seen, 10.0)
    assert list(found) == [*METRICS]
    for figure, value in zip(found.values(), expected, strict=True):
        assert figure.value == (value if value is None else pytest.approx(value))
        assert bool(figure.reason) is (value is None), "what is not told has its reason"


def test_the_section_names_what_there_is() -> None:
    assert NAMED == METRICS
