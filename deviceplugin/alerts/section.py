"""The configuration section `monitoring`; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from deviceplugin.schema import Section, section_of

_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
MAX_ALERTS = 100


def parse_duration(text: str) -> int:
    """Seconds of `30s`, `5m`, `1h` or `1d`; raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("a duration such as 30s, 5m, 1h or 1d")
    return int(match[1]) * _SECONDS[match[2]]


class AlertSection(Section, frozen=True):
    """An alert: what holds on a device for so long."""

    name: _NAME
    condition: str
    duration: str = field(default="0s", name="for")
    severity: Literal["info", "warning", "critical"] = "warning"

    def __post_init__(self) -> None:
        """Check both texts here, where msgspec still knows the key's path."""
        try:
            parse_duration(self.duration)
        except ValueError as error:
            raise ValueError(f"for: {error}") from error
        # With the metrics' table, which only those load who have alerts.
        from deviceplugin.alerts.condition import parse_condition, unmeasured  # noqa: PLC0415

        if not unmeasured(self.condition):
            try:
                parse_condition(self.condition)
            except ValueError as error:
                raise ValueError(f"condition: {error}") from error

    def without_effect(self) -> Mapping[str, str]:
        """Why the condition says nothing, where no GPU tells its subject."""
        from deviceplugin.alerts.condition import unmeasured  # noqa: PLC0415

        reason = unmeasured(self.condition)
        return {"condition": f"{self.name} is never judged: {reason}"} if reason else {}


class DashboardSection(Section, frozen=True):
    """How often a dashboard asks for new values."""

    name: Literal["gpu_overview", "gpu_details"]
    refresh: str

    def __post_init__(self) -> None:
        """Check the text here, where msgspec still knows the key's path."""
        try:
            parse_duration(self.refresh)
        except ValueError as error:
            raise ValueError(f"refresh: {error}") from error


class MonitoringSection(Section, frozen=True):
    """What is watched: `alerts` are judged on the node and rendered as rules, `metrics` are the
    panels of the rendered dashboards (empty: all), `dashboards` their refresh."""

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"system": "rules and dashboards are Prometheus' and Grafana's, whatever it says"}
    )

    enabled: bool = False
    system: str = "prometheus"
    metrics: tuple[str, ...] = ()
    alerts: tuple[AlertSection, ...] = ()
    dashboards: tuple[DashboardSection, ...] = ()

    def __post_init__(self) -> None:
        """Names that exist, and none twice."""
        if not self.enabled and (self.metrics or self.alerts or self.dashboards):
            raise ValueError("enabled: true, or none of the other keys")
        names = [alert.name for alert in self.alerts]
        if len(set(names)) < len(names) or len(names) > MAX_ALERTS:
            raise ValueError(f"alerts: at most {MAX_ALERTS}, each with a name of its own")
        if self.metrics:
            from deviceplugin.alerts.condition import QUANTITIES, UNMEASURED  # noqa: PLC0415

            if unknown := [m for m in self.metrics if m not in QUANTITIES.keys() | UNMEASURED]:
                known = ", ".join(sorted(QUANTITIES))
                raise ValueError(f"metrics: any of {known}; not {', '.join(unknown)[:80]}")

    def without_effect(self) -> Mapping[str, str]:
        """The metrics that no GPU tells, too."""
        if not self.metrics:
            return self.WITHOUT_EFFECT
        from deviceplugin.alerts.condition import UNMEASURED  # noqa: PLC0415

        absent = [f"{m} is not shown: {UNMEASURED[m]}" for m in self.metrics if m in UNMEASURED]
        return {**self.WITHOUT_EFFECT, **({"metrics": "; ".join(absent)} if absent else {})}


SECTIONS: Mapping[str, Any] = {"monitoring": MonitoringSection}


def monitoring_section(sections: Mapping[str, object]) -> MonitoringSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "monitoring", MonitoringSection)
