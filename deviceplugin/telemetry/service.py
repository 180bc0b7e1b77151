"""Telemetry as a part of the daemon; what measures is loaded when the section switches it on."""

import asyncio
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from deviceplugin.errors import ConfigError
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Part, Series
from deviceplugin.telemetry.around import Around, OfHost
from deviceplugin.telemetry.section import telemetry_section

if TYPE_CHECKING:  # who does not measure does not pay for it
    from deviceplugin.telemetry.history import History
    from deviceplugin.telemetry.metrics import Known
    from deviceplugin.telemetry.model import TelemetryView
    from deviceplugin.telemetry.rounds import Rounds


class TelemetryPart(Part[OfHost]):
    """Measures while its section is on; `view` has the newest values, None while it is off."""

    def __init__(self, config: OfHost, around: Around) -> None:
        self._config, self._around = config, around
        self._section = telemetry_section(config.sections)
        self._changed = asyncio.Event()
        self.view: Latest[TelemetryView | None] = Latest(None)
        self._rounds: Rounds | None = None

    @property
    def history(self) -> "History | None":
        """What is kept of the past, None while none is."""
        return self._rounds.history if self._rounds else None

    def tasks(self) -> Mapping[str, Once]:
        """The rounds."""
        return {"telemetry": self._run}

    def check(self, config: OfHost) -> None:
        """Processes need psutil."""
        section = telemetry_section(config.sections)
        if section.processes and find_spec("psutil") is None:
            text = "false, or the package psutil installed (pip install deviceplugin[processes])"
            raise ConfigError("telemetry.processes", section.processes, text)

    async def use(self, config: OfHost) -> None:
        """Measure by `config` from now on."""
        self._config = config
        self._section = telemetry_section(config.sections)
        self._changed.set()

    def collectors(self) -> Mapping[str, Collector]:
        """Metrics of devices, and of telemetry itself."""
        return {"telemetry": _Collector(self)}

    async def _run(self) -> None:
        self.check(self._config)
        while True:
            self._changed.clear()
            if self._section.enabled:
                await self._measure()
            else:
                await self._changed.wait()

    async def _measure(self) -> None:
        """Until the section changes."""
        from deviceplugin.telemetry.rounds import Rounds  # noqa: PLC0415  # where it is switched on

        before = self._rounds
        rounds = Rounds(self._config, self._section, self._around, self.view, before)
        self._rounds = rounds
        try:
            await rounds.run(self._changed)
        finally:
            if not self._section.enabled:
                self._rounds = None
                self.view.set(None)
            await rounds.close()

    def series(self) -> Iterable[Series]:
        """All series; from any thread."""
        rounds = self._rounds
        return rounds.series(self._known()) if rounds else ()

    def _known(self) -> "Known":
        from deviceplugin.telemetry.metrics import Known  # noqa: PLC0415  # loaded by the rounds

        inventory = self._around.inventory()
        return Known(
            node=self._config.node_name,
            events=dict(self._around.events),
            resets=dict(self._around.resets),
            drivers={v.name: v.driver_version or "" for v in inventory.vendors.values()},
        )


class _Collector:
    """Nothing while telemetry is off."""

    def __init__(self, part: TelemetryPart) -> None:
        self._part = part

    def collect(self) -> Iterable[Series]:
        return self._part.series()
