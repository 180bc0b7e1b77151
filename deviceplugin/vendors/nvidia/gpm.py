"""GPM, NVML's performance counters since Hopper: what GPUs and MIG instances do between two
samples.

A rate needs a sample from before: the first round has none. NVML asks for 100 ms between them.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from deviceplugin.errors import LibraryError
from deviceplugin.model import DeviceID
from deviceplugin.vendor.measuring import Labels, Values
from deviceplugin.vendors.nvidia.codes import FATAL
from deviceplugin.vendors.nvidia.library import Nvml

APART_S = 0.1
_MIB = float(1 << 20)
# nvml.h, NVML_GPM_METRIC_*: metric, labels and the factor to the base unit (percent, MiB/s).
METRICS: dict[int, tuple[str, Labels, float]] = {
    1: ("utilization_ratio", (("engine", "graphics"),), 0.01),
    2: ("utilization_ratio", (("engine", "sm"),), 0.01),
    5: ("utilization_ratio", (("engine", "tensor"),), 0.01),
    10: ("utilization_ratio", (("engine", "dram"),), 0.01),
    20: ("pcie_bytes_per_second", (("direction", "tx"),), _MIB),
    21: ("pcie_bytes_per_second", (("direction", "rx"),), _MIB),
}
# An instance has no nvmlDeviceGetUtilizationRates: what its GPU calls compute is this.
INSTANCE_METRICS = {**METRICS, 1: ("utilization_ratio", (("engine", "compute"),), 0.01)}
del INSTANCE_METRICS[20], INSTANCE_METRICS[21]  # PCIe belongs to the whole GPU


class Gpm:
    """The last sample of each device; samples are memory of the library, two for each device."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._last: dict[DeviceID, tuple[Any, float]] = {}
        self._spare: dict[DeviceID, Any] = {}
        self._without: set[DeviceID] = set()

    def take(self, handle: Any, sample: Any) -> None:
        """Take a sample of a GPU."""
        self._nvml.call("nvmlGpmSampleGet", handle, sample)

    def take_instance(self, handle: Any, instance: int, sample: Any) -> None:
        """Take a sample of a GPU instance of a GPU."""
        self._nvml.call("nvmlGpmMigSampleGet", handle, instance, sample)

    def measure(
        self, device: DeviceID, take: Callable[[Any], None], *, instance: bool = False
    ) -> Values:
        """What the device did since the last time; nothing the first time and before Hopper."""
        now_s, last = time.monotonic(), self._last.get(device)
        if device in self._without or (last and now_s - last[1] < APART_S):
            return
        try:
            sample = self._spare.pop(device, None) or self._nvml.call("nvmlGpmSampleAlloc")
            self._spare[device] = sample  # until it is taken: one that fails is not lost
            take(sample)
            del self._spare[device]
            self._last[device] = (sample, now_s)
            if last is not None:
                self._spare[device] = last[0]
                yield from self._between(last[0], sample, instance=instance)
        except LibraryError as error:
            if error.code in FATAL:
                raise
            self._without.add(device)  # not supported, or of an instance that is gone

    def _between(self, before: Any, now: Any, *, instance: bool) -> Iterator[Any]:
        table = INSTANCE_METRICS if instance else METRICS
        question = self._nvml.gpm_question(before, now, table)
        answer = self._nvml.call("nvmlGpmMetricsGet", question)
        for place, number in enumerate(table):
            one = answer.metrics[place]
            if one.nvmlReturn == 0:
                metric, labels, factor = table[number]
                yield metric, float(one.value) * factor, labels
