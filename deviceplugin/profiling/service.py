"""Profiling as a part of the daemon: follows telemetry's rounds while its section is on."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import structlog
from msgspec import Meta

from deviceplugin.metrics.section import shows_pods
from deviceplugin.profiling.section import Wanted, wanted
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Operation, Part, Reply, Sectioned, Series
from deviceplugin.schema import Section
from deviceplugin.telemetry.section import telemetry_section

if TYPE_CHECKING:  # who does not profile does not pay for it
    from deviceplugin.profiling.files import Files
    from deviceplugin.profiling.window import Ring
    from deviceplugin.telemetry.model import TelemetryView

log = structlog.get_logger()
FOLDER = "profiling"  # in the state directory
RETENTION_S = 7 * 86400.0
_OFF = "profiling is off: write `profiling: {}` in the configuration, and ask a minute later"


class OfNode(Sectioned, Protocol):
    """A configuration that also says where state is kept."""

    @property
    def state_dir(self) -> Path:
        """Ours."""


class ProfileRequest(Section, frozen=True):
    """A question: what the GPUs of a pod did in the last `seconds`, whole ones."""

    operation: str
    pod: str
    seconds: Annotated[str, Meta(pattern=r"^[0-9]{1,4}$")] = "30"


class ProfilingPart(Part[OfNode]):
    """Keeps the last minutes and writes files; `view` is telemetry's newest, `now` Unix seconds."""

    def __init__(
        self, config: OfNode, view: "Latest[TelemetryView | None]", now: Callable[[], float]
    ) -> None:
        self._config, self._view, self._now = config, view, now
        self._changed = asyncio.Event()
        self._ring: Ring | None = None
        self._files: Files | None = None
        self.failing = ""

    def tasks(self) -> Mapping[str, Once]:
        """The rounds."""
        return {"profiling": self._run}

    def operations(self) -> Mapping[str, Operation]:
        """What `deviceplugin profile` asks."""
        return {"profile": Operation(ProfileRequest, self._profile)}

    async def use(self, config: OfNode) -> None:
        """By the new section from now on; what is kept stays."""
        self._config, self._files, self.failing = config, None, ""
        self._changed.set()

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"profiling": self}

    def collect(self) -> Iterable[Series]:
        """From any thread."""
        if wanted(self._config.sections) is None:
            return ()
        from deviceplugin.profiling.metrics import series_of  # noqa: PLC0415  # where it is on

        return series_of(failing=bool(self.failing))

    def remark(self) -> str:
        """Why nothing is written."""
        if self.failing:
            return f"profiles are not written: {self.failing}"
        sections = self._config.sections
        if wanted(sections) is not None and not telemetry_section(sections).enabled:
            return "nothing is profiled: nothing is measured (telemetry.enabled)"
        return ""

    async def _run(self) -> None:
        seen: TelemetryView | None = None
        while True:
            self._changed.clear()
            section = wanted(self._config.sections)
            if section is None:
                self._ring = None
                await self._changed.wait()
                continue
            view = self._view.value
            if view is not None and view is not seen:
                await self._take(view, section)
            seen = view
            await self._next(view)

    async def _next(self, seen: "TelemetryView | None") -> None:
        """Until telemetry has something new, or the section changed."""
        waits = [
            asyncio.ensure_future(self._view.next(seen)),
            asyncio.ensure_future(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    async def _take(self, view: "TelemetryView", section: Wanted) -> None:
        from deviceplugin.profiling.files import Files  # noqa: PLC0415  # where it is on
        from deviceplugin.profiling.window import Ring, lines_of  # noqa: PLC0415

        if self._ring is None:
            self._ring = Ring()
        if self._files is None:
            output = section.output
            named = output.location if output is not None else None
            folder = Path(named) if named else self._config.state_dir / FOLDER
            self._files = Files(folder, output.retention_s if output else RETENTION_S)
        now = self._now()
        made = self._ring.add(view, now)
        lines = list(lines_of(made, section.metrics, shows_pods(self._config.sections)))
        try:
            await asyncio.to_thread(self._files.write, lines, now)
        except OSError as error:
            if not self.failing:
                log.warning("profile_not_written", reason=str(error))
            self.failing = str(error)
        else:
            self.failing = ""

    async def _profile(self, request: ProfileRequest) -> Reply:
        section, ring = wanted(self._config.sections), self._ring
        if section is None or ring is None:
            raise ControlError(_OFF)
        from deviceplugin.profiling.window import KEPT_S, profile_of  # noqa: PLC0415  # as above

        seconds = float(request.seconds)
        if not 0 < seconds <= KEPT_S:
            raise ControlError(f"--seconds: 1 to {KEPT_S:.0f}, which is what is kept")
        document = profile_of(ring.last(seconds), request.pod, section.metrics)
        if not document["containers"]:
            raise ControlError(
                f"pod {request.pod} held no GPU in the last {document['window_s']:g} s that were"
                " measured; `deviceplugin health` shows who holds what"
            )
        return document
