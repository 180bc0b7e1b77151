"""Alerts as a part of the daemon: judged as often as devices are measured, told once each."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from deviceplugin.alerts.section import MonitoringSection, monitoring_section
from deviceplugin.health.report import Held, Listed
from deviceplugin.metrics.section import shows_pods
from deviceplugin.runtime.part import Collector, Once, Part, Sectioned, Series

if TYPE_CHECKING:  # with the table of metrics, which only those load who have alerts
    from deviceplugin.alerts.judge import Standing, States
    from deviceplugin.telemetry.model import TelemetryView

log = structlog.get_logger()
LOOK_S = 10.0


class Watched(Struct, frozen=True, kw_only=True):
    """What alerts are about; `view` is None while nothing is measured."""

    now: Callable[[], float]
    view: "Callable[[], TelemetryView | None]"
    held: Callable[[], Iterable[Held]]
    listed: Callable[[], Listed]


class AlertsPart(Part[Sectioned]):
    """Judges the alerts of the section `monitoring` by what was measured last."""

    def __init__(self, config: Sectioned, watched: Watched) -> None:
        self._watched, self.look_s = watched, LOOK_S
        self._changed = asyncio.Event()
        self.states: States = {}
        self._take(config)

    def _take(self, config: Sectioned) -> None:
        self._section = monitoring_section(config.sections)
        self._shows_pods = shows_pods(config.sections)

    def tasks(self) -> Mapping[str, Once]:
        """The judging."""
        return {"alerts": self._run}

    async def use(self, config: Sectioned) -> None:
        """Judge other alerts from now on; one that stands goes on if its name and condition do."""
        self._take(config)
        self._changed.set()

    def remark(self) -> str:
        """Alerts that nothing can be said of."""
        if self._section.alerts and self._watched.view() is None:
            return "alerts are not judged: nothing is measured (telemetry.enabled)"
        return ""

    def collectors(self) -> Mapping[str, Collector]:
        """What fires and what is granted."""
        return {"alerts": _Collectors(self._section_now, self._watched, self)}

    def _section_now(self) -> MonitoringSection:
        return self._section

    @property
    def shows_pods(self) -> bool:
        """Whether series may name pods."""
        return self._shows_pods

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if self._section.alerts:
                await self._judge(self._section)
            else:
                self._tell({})
                await self._changed.wait()

    async def _judge(self, section: MonitoringSection) -> None:
        """For as long as this is the section."""
        from deviceplugin.alerts.judge import alerts_of, judged  # noqa: PLC0415

        alerts = alerts_of(section.alerts)
        while self._section is section:
            view = self._watched.view()
            now = self._watched.now()
            self._tell(judged(self.states, alerts, view, now) if view is not None else {})
            wait_s = view.interval_s if view is not None else self.look_s
            await _either(self._changed, min(wait_s, self.look_s))

    def _tell(self, after: "States") -> None:
        if self.states or after:
            from deviceplugin.alerts.judge import changes  # noqa: PLC0415

            for event, one in changes(self.states, after):
                _log(event, one)
        self.states = after


def _log(event: str, one: "Standing") -> None:
    condition = one.alert.condition
    fields = {
        "alert": one.alert.name,
        "severity": one.alert.severity,
        "device": one.device,
        "condition": condition.text,
        "value": condition.quantity.shown(one.value),
    }
    if event == "alert_firing":
        tell = log.error if one.alert.severity == "critical" else log.warning
        tell("alert_firing", **fields)
    else:
        log.info("alert_resolved", **fields)


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class _Collectors:
    """None at all while the section is off."""

    def __init__(
        self, section: Callable[[], MonitoringSection], watched: Watched, part: AlertsPart
    ) -> None:
        self._section, self._watched, self._part = section, watched, part
        self._sources: tuple[Collector, ...] = ()

    def collect(self) -> Iterable[Series]:
        """The series as they are now."""
        if not self._section().enabled:
            return
        if not self._sources:
            from deviceplugin.alerts.metrics import (  # noqa: PLC0415
                AlertsCollector,
                GrantsCollector,
            )

            part, watched = self._part, self._watched
            self._sources = (
                AlertsCollector(lambda: part.states),
                GrantsCollector(watched.listed, watched.held, lambda: part.shows_pods),
            )
        for source in self._sources:
            yield from source.collect()
