"""The section `profiling`; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from deviceplugin.documents.told import Telling, Time, Told, Words, applied, seconds_of
from deviceplugin.schema import Places

METRICS = (
    "kernel_execution_time",
    "memory_transfer_time",
    "compute_utilization",
    "memory_bandwidth",
)
_WRITTEN = applied("the daemon writes what counters tell, and keeps the last 5 minutes for pods")
_LEAST_S, _MOST_S = 3600, 366 * 86400


class ProfilingOutput(Told, frozen=True):
    """Where profiles go: without `location` into the state directory."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "format": applied("a line of JSON for each GPU and round"),
            "location": applied("the folder of the files, of this daemon alone"),
            "retention": applied("files that are older are removed, and the oldest above 256 MiB"),
        }
    )
    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType(
        {"location": Places(("/var/lib/deviceplugin",), exactly=("/tmp/profiling",))}  # noqa: S108
    )

    format: Literal["json"] = "json"
    location: str | None = None
    retention: Time = "7d"

    def __post_init__(self) -> None:
        """Check the time."""
        if not _LEAST_S <= self.retention_s <= _MOST_S:
            raise ValueError("retention: a time from 1h to 1y")

    @property
    def retention_s(self) -> float:
        """In seconds."""
        return seconds_of(self.retention)


class Profiling(Told, frozen=True):
    """The section `profiling`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": _WRITTEN,
            "tools": applied("`deviceplugin profile --tools` looks for these, and what they need"),
            "metrics": applied("these alone are written and shown; empty, all"),
        }
    )

    enabled: bool = True
    tools: Words = ()
    metrics: tuple[
        Literal[
            "kernel_execution_time",
            "memory_transfer_time",
            "compute_utilization",
            "memory_bandwidth",
        ],
        ...,
    ] = ()
    output: ProfilingOutput | None = None
