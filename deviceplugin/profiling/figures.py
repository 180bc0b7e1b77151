"""The figures of a profile from what telemetry measured of a GPU; pure.

Sources: nvmlUtilization_t (`gpu`: percent of time over the past sample period during which one or
more kernels was executing), NVML_GPM_METRIC_DRAM_BW_UTIL (percentage of the maximum bandwidth),
gpu_metrics' average_umc_activity and average_gfx_activity, Intel's PMU (busy time of an engine).
What a counter does not tell is None, with why: never 0.
"""

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from deviceplugin.documents.products import sheet_of
from deviceplugin.telemetry.model import DeviceView

METRICS = (
    "kernel_execution_time",
    "memory_transfer_time",
    "compute_utilization",
    "memory_bandwidth",
)
UNITS: Mapping[str, str] = {
    "kernel_execution_time": "seconds",
    "memory_transfer_time": "seconds",
    "compute_utilization": "ratio",
    "memory_bandwidth": "bytes/second",
}
_SILENT = "the GPU did not answer"
_NO_COPY = "no counter of this vendor tells how long copies took"
_NO_MOVED = "no counter of this GPU tells how much memory moved"
_NO_PEAK = "the bandwidth of this product is not known, of which the counter gives a part"
_GBYTE = 1e9


class Figure(Struct, frozen=True):
    """A value in its unit, None with the reason where nothing tells it."""

    value: float | None
    reason: str = ""


Figures = Mapping[str, Figure]


def figures_of(view: DeviceView, window_s: float) -> Figures:
    """The figures of one round, which stands for `window_s` seconds."""
    if not view.up:
        return {name: Figure(None, _SILENT) for name in METRICS}
    make: Mapping[str, Callable[[], Figure]] = {
        "kernel_execution_time": lambda: _times(compute_utilization(view), window_s),
        "memory_transfer_time": lambda: _times(_copying(view), window_s),
        "compute_utilization": lambda: compute_utilization(view),
        "memory_bandwidth": lambda: _bandwidth(view),
    }
    return {name: make[name]() for name in METRICS}


def compute_utilization(view: DeviceView) -> Figure:
    """The part of the time in which kernels ran."""
    for engine in ("compute", "graphics"):
        value = view.value("utilization_ratio", engine=engine)
        if value is not None:
            return Figure(value)
    return Figure(None, "no counter of this GPU tells it")


def _copying(view: DeviceView) -> Figure:
    value = view.value("utilization_ratio", engine="copy")
    return Figure(None, _NO_COPY) if value is None else Figure(value)


def _bandwidth(view: DeviceView) -> Figure:
    """NVIDIA's `memory` is a part of the time and not of the bandwidth, so it does not count."""
    engine = "memory" if view.device.vendor == "amd" else "dram"
    part = view.value("utilization_ratio", engine=engine)
    if part is None:
        return Figure(None, _NO_MOVED)
    peak = _peak(view)
    return Figure(None, _NO_PEAK) if peak is None else Figure(part * peak * _GBYTE)


def _peak(view: DeviceView) -> float | None:
    """In GB/s: what the driver tells, else the data sheet; of a partition nothing is known."""
    if view.device.parent is not None:
        return None
    told = re.fullmatch(r"(\d+) GB/s", view.device.attributes.get("memory_bandwidth", ""))
    if told:
        return float(told[1])
    sheet = sheet_of(view.device.product)
    return sheet.bandwidth if sheet else None


def _times(part: Figure, window_s: float) -> Figure:
    return part if part.value is None else Figure(part.value * window_s)
