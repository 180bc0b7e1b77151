"""What may fail, as a part of the daemon: certain findings at once, the rest from time to time by a
process of its own, since a fleet's past is long and nothing of it is needed here."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from msgspec import Struct

from deviceplugin.errors import DevicePluginError
from deviceplugin.model import DeviceID, Inventory
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Operation, Part, Reply, Sectioned, Series
from deviceplugin.runtime.waking import woken
from deviceplugin.schema import Section

if TYPE_CHECKING:  # who has no such section does not pay for it
    from deviceplugin.documents.maintenance import PredictiveMaintenance
    from deviceplugin.maintenance.alerts import Firing

FIRST_S = 60.0  # after the start, when vendors have looked, and after what changes
_SHOWN = 3  # alerts in a line
log = structlog.get_logger()
Document = Mapping[str, Any]
Certain = Mapping[DeviceID, tuple[str, ...]]
ConfigT = TypeVar("ConfigT", bound=Sectioned)


class MaintenanceRequest(Section, frozen=True):
    """What was found last; `operation` is maintenance."""

    operation: str


class Around(Struct, frozen=True):
    """The clock (Unix seconds), and the devices with their faults."""

    now: Callable[[], float]
    inventory: Latest[Inventory]


class MaintenancePart(Part[ConfigT]):
    """Looks ahead while its section is on: `look` gives what the command printed for a
    configuration, and its exit status; it may raise DevicePluginError or OSError."""

    def __init__(
        self,
        config: ConfigT,
        look: Callable[[ConfigT], Awaitable[tuple[bytes, int]]],
        around: Around,
    ) -> None:
        self._config, self._section = config, _section(config)
        self._ask, self._around = look, around
        self._again = asyncio.Event()
        self.first_s = FIRST_S
        self.last: Latest[Document | None] = Latest(None)
        self.done_at: float | None = None
        self.firing: Latest[frozenset[Firing]] = Latest(frozenset())
        self.certain: Certain = {}
        self._failing = ""

    def tasks(self) -> Mapping[str, Once]:
        """The look ahead, and certain findings."""
        return {"maintenance": self._run, "maintenance_findings": self._watch}

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"maintenance": self}

    def operations(self) -> Mapping[str, Operation]:
        """What was found last."""
        return {"maintenance": Operation(MaintenanceRequest, self._answer)}

    async def use(self, config: ConfigT) -> None:
        """Follow the section from now on; what was found stays until it is off."""
        self._config, self._section = config, _section(config)
        if self._section is None:
            self.last.value, self.done_at, self._failing = None, None, ""
        self._judge(self._around.inventory.value)
        self._again.set()

    @property
    def notice(self) -> str:
        """What fires, or that nothing could be found out; empty where there is neither."""
        if self._failing:
            return f"what may fail could not be found out: {self._failing}"
        certain = [f"{found[0]} of {device}" for device, found in sorted(self.certain.items())]
        told = [f"certain: {text}" for text in certain]
        told += sorted({f"{one.alert} of {one.device}" for one in self.firing.value})
        if not told:
            return ""
        more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        return f"{', '.join(told[:_SHOWN])}{more} (deviceplugin maintenance show says more)"

    def collect(self) -> Sequence[Series]:
        """The last document, and what fires."""
        if self._section is None:
            return ()
        from deviceplugin.maintenance.metrics import Shown, series_of  # noqa: PLC0415  # as above

        shown = Shown(
            document=self.last.value,
            done_at=self.done_at,
            failing=bool(self._failing),
            certain=self.certain,
            firing=self.firing.value,
            predictions=self._section.predictions,
        )
        return tuple(series_of(shown))

    async def _answer(self, _: MaintenanceRequest) -> Reply:
        return {"document": self.last.value, "made_at": self.done_at}

    async def _watch(self) -> None:
        """Certain findings need no look ahead: the faults say them."""
        async for inventory in self._around.inventory.changes():
            if self._judge(inventory):
                self._again.set()

    def _judge(self, inventory: Inventory) -> bool:
        """What fires now; whether certain findings have changed."""
        if self._section is None:
            self.certain = {}
            self.firing.set(frozenset())
            return False
        from deviceplugin.maintenance.alerts import certain_of, firing_of  # noqa: PLC0415

        before, self.certain = self.certain, certain_of(inventory)
        for device, finding in sorted(_pairs(self.certain) - _pairs(before)):
            log.error("certain_finding", device=device, finding=finding)
        old = self.firing.value
        self.firing.set(firing_of(self._section.alerts, self.certain, self.last.value))
        _tell(old, self.firing.value)
        return before != self.certain

    async def _run(self) -> None:
        """Another configuration, or another certain finding, brings the next look forward."""
        loop = asyncio.get_running_loop()
        at = loop.time() + self.first_s
        while True:
            if await woken(self._again, None if self._section is None else at - loop.time()):
                soon = loop.time() + self.first_s
                at = soon if self.done_at is None else min(at, soon)
                continue
            await self._look()
            at = loop.time() + (self._section.interval_s if self._section else self.first_s)

    async def _look(self) -> None:
        try:
            document = _document(*await self._ask(self._config))
        except (DevicePluginError, OSError) as error:
            if not self._failing:
                log.warning("maintenance_not_foreseen", reason=str(error))
            self._failing = str(error)
            return
        self._failing = ""
        if self._section is not None:  # it may have been switched off meanwhile
            self.done_at = self._around.now()
            self.last.set(document)
            self._judge(self._around.inventory.value)


def _pairs(certain: Certain) -> set[tuple[str, str]]:
    return {(str(device), finding) for device, found in certain.items() for finding in found}


def _tell(before: "frozenset[Firing]", after: "frozenset[Firing]") -> None:
    for one in sorted(after - before):
        tell = log.error if one.severity == "critical" else log.warning
        tell("maintenance_alert", alert=one.alert, severity=one.severity, device=one.device)
    for one in sorted(before - after):
        log.info("maintenance_alert_ended", alert=one.alert, device=one.device)


def _document(text: bytes, status: int) -> Document:
    """Status 1 says that something is certain; raises DevicePluginError for what is no document."""
    try:
        document = json.loads(text)
        for one in _gpus(document):
            for value in (one["failure_probability"], *one["interval_80"]):
                float(value)
            if one["remaining_life"] is not None:
                float(one["remaining_life"]["low_days"])
        float(document["window_days"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DevicePluginError(f"the command ended with {status} and no document") from None
    return dict(document)


def _gpus(document: Any) -> Iterator[Any]:  # not checked yet
    for one in document["gpus"]:
        if not isinstance(one["id"], str):
            raise TypeError("id")
        yield one


def _section(config: Sectioned) -> "PredictiveMaintenance | None":
    """The section where it asks for something; its schema is loaded where a file has it."""
    found: PredictiveMaintenance | None = config.sections.get("predictive_maintenance")
    return found if found is not None and found.enabled else None
