"""The contract of telemetry: what a vendor measures of its devices and of processes on them.

Everything here is of the public module `deviceplugin.vendor`.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from deviceplugin.model import Device, DeviceID

MEASURE_DEADLINE_S = 5.0  # of one call


class Measured(Struct, frozen=True, kw_only=True, gc=False):
    """One value of one device, in the metric's base unit (docs/metrics.md has all metrics).

    `metric` is the metric's name without `deviceplugin_gpu_`, `labels` are its own labels. What
    cannot be read is left out, never 0.
    """

    metric: str
    device: DeviceID
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class DeviceProcess(Struct, frozen=True, kw_only=True, gc=False):
    """What a process, by its number on the host, has of a device; None is unknown."""

    pid: int
    device: DeviceID
    memory_bytes: int | None = None
    utilization_ratio: float | None = None


class Sample(Struct, frozen=True, kw_only=True):
    """What was measured of some devices at one moment; `lost` are those that did not answer."""

    measured: tuple[Measured, ...] = ()
    lost: tuple[DeviceID, ...] = ()


@runtime_checkable
class Telemetry(Protocol):
    """A vendor whose devices can be measured."""

    def sample(self, devices: Sequence[Device]) -> Sample:
        """What one GPU, the first of `devices`, and its partitions, the others, do now.

        Blocking, on a thread of its own, within MEASURE_DEADLINE_S. Raises LibraryError or
        DiscoveryError where the GPU does not answer.
        """


@runtime_checkable
class ProcessTelemetry(Protocol):
    """A vendor that knows which processes use its devices; asked only where somebody asks."""

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """The processes on any of `devices`, all of the vendor's own.

        Blocking, on a thread of its own, within MEASURE_DEADLINE_S.
        """
