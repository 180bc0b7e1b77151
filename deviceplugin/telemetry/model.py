"""The values of telemetry: what was measured of each device, by which processes, for which pods."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.model import Device, DeviceID, ResourceName
from deviceplugin.telemetry.catalogue import METRICS

Labels = tuple[tuple[str, str], ...]


class Owner(Struct, frozen=True, kw_only=True, gc=False, order=True):
    """A container that holds a device, or that a process runs in."""

    namespace: str
    pod: str
    container: str


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """One value of one device; `metric` is a key of the catalogue, `at` Unix seconds.

    `labels` are those that the catalogue gives the metric beside the common ones, in its order.
    """

    metric: str
    device: DeviceID
    value: float
    at: float
    labels: Labels = ()

    @property
    def unit(self) -> str:
        """Its unit: `celsius`, `bytes`, `ratio` (0 to 1) and so on; empty for a count."""
        return METRICS[self.metric].unit


class ProcessUse(Struct, frozen=True, kw_only=True, gc=False):
    """What one process has of one device; `owner` is None where no pod of this node has it.

    `utilization_ratio` is its part of the device's compute time, 0 to 1.
    """

    pid: int
    device: DeviceID
    name: str | None = None
    memory_bytes: int | None = None
    utilization_ratio: float | None = None
    owner: Owner | None = None


class DeviceView(Struct, frozen=True, kw_only=True):
    """One device: `up` tells whether it answers, `seen_at` when it last did (Unix seconds, None:
    not yet), `readings` what it answered then; none of a lost one.

    `holders` are the containers that hold it or a share of it, each with the resource, `shares`
    which part of it each was given, 0 to 1, as far as that is known.
    """

    device: Device
    up: bool
    seen_at: float | None = None
    readings: tuple[Reading, ...] = ()
    holders: tuple[tuple[Owner, ResourceName], ...] = ()
    shares: tuple[tuple[Owner, float], ...] = ()

    def value(self, metric: str, **labels: str) -> float | None:
        """The value of the first reading of `metric` that has all of `labels`."""
        wanted = set(labels.items())
        found = (r.value for r in self.readings if r.metric == metric and wanted <= {*r.labels})
        return next(found, None)


class TelemetryView(Struct, frozen=True, kw_only=True):
    """Everything that is known at one moment; immutable, so any thread may read it.

    `interval_s` is the time between two rounds of samples. `processes` is None where processes are
    not asked for.
    """

    interval_s: float
    devices: Mapping[DeviceID, DeviceView] = field(default_factory=lambda: MappingProxyType({}))
    processes: tuple[ProcessUse, ...] | None = None
