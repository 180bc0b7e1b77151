"""docs/metrics.md, made of the table of metrics; pure."""

from collections.abc import Iterator

from deviceplugin.telemetry.catalogue import METRICS
from deviceplugin.telemetry.metric import Metric

_HEAD = """# Metrics of GPUs

<!-- Made from deviceplugin/telemetry/catalogue.py; a test holds it. STORIES=write renews it. -->

What [`telemetry.enabled`](configuration.md#telemetry) adds to `/metrics`. Every GPU, and every
partition or virtual function whose hardware tells, is measured every `telemetry.interval_s`
seconds on a thread of its vendor; a scrape shows the last values and asks no driver. `Accept:
application/openmetrics-text` gives the same as OpenMetrics.

- Units are base units, ratios are 0 to 1. What cannot be read is an absent series, never 0.
- Every series has `vendor`, `uuid` (the `device` of other series), `index` (of the GPU), `pci`,
  `model` and `partition` (`0:1` is partition 1 of GPU 0; empty for a whole GPU).
- Series of a device that one container holds alone, whole or as a share, also have `namespace`,
  `pod` and `container`, if [`metrics.pods`](configuration.md#the-http-endpoint) allows it. Of a
  device that several hold no series names any of them, so that sums count it once:
  `deviceplugin_gpu_pod_*` has each one's part. Prometheus renames scraped `namespace`, `pod` and
  `container` to `exported_…` unless the scrape has `honorLabels`.
- A GPU that is lost keeps `deviceplugin_gpu_up` 0 and
  `deviceplugin_gpu_last_seen_timestamp_seconds`; its other readings end. What a GPU that does
  not answer in time said last is shown for three rounds, with its age.
- With `telemetry.processes` a process belongs to the pod that its cgroup names. The name is
  found below the host's `/var/log/pods`, the container by who holds the device; without that
  folder the pod is named by its UID. A process of no pod has empty names, and the log event
  `process_without_pod`.
- Not measured: PCIe throughput before Hopper (a call of 20 ms), of AMD (the kernel says GB/s of
  its counter, AMD's library Mbit/s) and of Intel; MIG instances' utilisation before Hopper; memory
  errors of Intel under Linux' own drivers, whose only interface (drm_ras, by netlink) is new and
  not for containers. AMD and Intel have not run on hardware: their files are read as their kernel's
  documentation has them.
- Engines of Intel are counted by perf events where the kernel allows that: with CAP_PERFMON, or
  `kernel.perf_event_paranoid` below 1, and a seccomp profile that lets `perf_event_open` through
  (containerd's does with CAP_PERFMON). Elsewhere `telemetry.processes` tells what processes did.
- Readings have at most 250 values of a device; processes at most 2048; GPUs that are gone at
  most 64.
"""
_ALIASES = """
## Names of other exporters

With `telemetry.compatibility` the same values are also shown by these names, in their exporter's
units and with its labels, so that dashboards go on working. `dcgm` is for NVIDIA, `amd` for AMD,
`xpumd` for Intel, `accelerator` for all.

| Name | Family | Value of | Times |
|---|---|---|---|
"""


def document() -> str:
    """The whole page."""
    return "".join((_HEAD, *_overview(), *_sources(), _ALIASES, *_aliases()))


def _overview() -> Iterator[str]:
    yield "\n## All metrics\n\n| Name | Type | Unit | Labels of its own | Meaning |\n"
    yield "|---|---|---|---|---|\n"
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} |\n"


def _sources() -> Iterator[str]:
    yield "\n## Where values are from\n\n| Name | Vendor | Call, file or field |\n|---|---|---|\n"
    for metric in METRICS.values():
        for vendor, source in metric.sources.items():
            yield f"| `{metric.name}` | {vendor} | {_cell(source)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


def _aliases() -> Iterator[str]:
    for metric in METRICS.values():
        for alias in metric.aliases:
            yield f"| `{alias.name}` | {alias.family} | `{_series(metric, alias.where)}` |"
            yield f" {_times(alias.scale)} |\n"


def _series(metric: Metric, where: tuple[tuple[str, str], ...]) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in where)
    return f"{metric.name}{{{labels}}}" if labels else metric.name


def _times(scale: float) -> str:
    return f"1/{1 / scale:g}" if scale < 1 else f"{scale:g}"
