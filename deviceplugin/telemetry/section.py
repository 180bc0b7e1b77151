"""The configuration section `telemetry`; pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from deviceplugin.schema import Section, section_of


class TelemetrySection(Section, frozen=True):
    """What is measured, and by which names it is shown.

    `interval_s` is the time between two rounds of samples. `processes` also asks which processes
    use the devices, and in which pods they run. `compatibility` adds the names of other exporters.
    `history` keeps means of minutes, hours and days in the state directory.
    """

    enabled: bool = False
    interval_s: Annotated[float, Meta(ge=1, le=300)] = 10.0
    processes: bool = False
    history: bool = False
    compatibility: tuple[Literal["accelerator", "amd", "dcgm", "xpumd"], ...] = ()


def telemetry_section(sections: Mapping[str, object]) -> TelemetrySection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "telemetry", TelemetrySection)


SECTIONS: Mapping[str, Any] = {"telemetry": TelemetrySection}
