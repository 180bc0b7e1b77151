"""The diagnosis as a part of the daemon: made from time to time by a process of its own, so that a
driver that hangs or dies there takes nothing of the daemon with it."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Part, Sectioned, Series
from deviceplugin.runtime.waking import woken

FIRST_S = 60.0  # after the start: vendors have looked and pods are back
DEADLINE_S = 300.0
_SHOWN = 3  # checks in a line
log = structlog.get_logger()
Document = Mapping[str, Any]
ConfigT = TypeVar("ConfigT", bound=Sectioned)


class Alert(Protocol):
    """An alert of the section."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def severity(self) -> str:
        """How much it matters."""


class Wanted(Protocol):
    """The section `diagnostics`, as its part sees it."""

    @property
    def enabled(self) -> bool:
        """Whether anything is done."""

    @property
    def interval_s(self) -> float:
        """From one diagnosis to the next."""

    @property
    def alerts(self) -> Sequence[Alert]:
        """What fires while a check fails."""


class DiagnosisPart(Part[ConfigT]):
    """Runs the command line of a configuration while its section is on; it prints a document."""

    def __init__(
        self, config: ConfigT, command: Callable[[ConfigT], Sequence[str]], now: Callable[[], float]
    ) -> None:
        self._config, self._section = config, _section(config)
        self._command, self._now = command, now
        self._used = asyncio.Event()
        self.first_s, self.deadline_s = FIRST_S, DEADLINE_S
        self.last: Latest[Document | None] = Latest(None)
        self.done_at: float | None = None
        self._failing = ""

    def tasks(self) -> Mapping[str, Once]:
        """The diagnosis, again and again."""
        return {"diagnosis": self._run}

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"diagnosis": self}

    async def use(self, config: ConfigT) -> None:
        """Follow the section from now on; what was found stays until it is off."""
        self._config, self._section = config, _section(config)
        if self._section is None:
            self.last.value, self.done_at, self._failing = None, None, ""
        self._used.set()

    @property
    def notice(self) -> str:
        """What fails, or that nothing could be found out; empty where all is well."""
        if self._failing:
            return f"the diagnosis could not be made: {self._failing}"
        failed = self.failed
        if not failed:
            return ""
        some = ", ".join(f"{one['check']} of {one['subject']}" for one in failed[:_SHOWN])
        more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        return f"the diagnosis fails: {some}{more} (deviceplugin diagnose says what to do)"

    @property
    def failed(self) -> Sequence[Document]:
        """The checks that failed in the last diagnosis."""
        return _failed(self.last.value)

    def collect(self) -> Sequence[Series]:
        """The last diagnosis."""
        if self._section is None:
            return ()
        from deviceplugin.diagnose.metrics import Shown, series_of  # noqa: PLC0415  # where it is on

        alerts = [(alert.name, alert.severity) for alert in self._section.alerts]
        shown = Shown(self.last.value, self.done_at, failing=bool(self._failing), alerts=alerts)
        return tuple(series_of(shown))

    async def _run(self) -> None:
        """Each pause begins anew when another configuration is in force."""
        pause_s = self.first_s
        while True:
            if await woken(self._used, None if self._section is None else pause_s):
                continue
            await self._look()
            pause_s = self.first_s if self._section is None else self._section.interval_s

    async def _look(self) -> None:
        try:
            document = await self._made()
        except (DevicePluginError, OSError) as error:
            if not self._failing:
                log.warning("diagnosis_not_made", reason=str(error))
            self._failing = str(error)
            return
        before, self._failing = {_name(one) for one in self.failed}, ""
        for one in _failed(document):
            if _name(one) not in before:
                about = {name: one[name] for name in ("check", "subject", "value", "action")}
                log.warning("diagnosis_failed", **about)
        self.done_at = self._now()
        self.last.set(document)

    async def _made(self) -> Document:
        from deviceplugin.runtime.commands import printed  # noqa: PLC0415  # where it is on

        done = await printed(self._command(self._config), self.deadline_s)
        return _document(done.text, done.status)


def _document(text: bytes, status: int) -> Document:
    try:
        document = json.loads(text)
        for one in document["checks"]:
            for name in ("check", "subject", "verdict", "value", "action"):
                str(one[name])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DevicePluginError(f"the command ended with {status} and no document") from None
    return dict(document)


def _failed(document: Document | None) -> Sequence[Document]:
    checks = document["checks"] if document else ()
    return [one for one in checks if one["verdict"] == "fail"]


def _name(one: Document) -> tuple[str, str]:
    return one["check"], one["subject"]


def _section(config: Sectioned) -> Wanted | None:
    """The section where it asks for something; its schema is loaded where a file has it."""
    found: Wanted | None = config.sections.get("diagnostics")
    return found if found is not None and found.enabled else None
