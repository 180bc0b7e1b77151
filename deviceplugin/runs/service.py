"""Runs of containers as a part of the daemon; off, it imports nothing and keeps nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from deviceplugin.metrics.local import names_pods
from deviceplugin.runs.section import runs_section
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Page, Part, Response, Sectioned, Series
from deviceplugin.telemetry.around import Held

if TYPE_CHECKING:  # who keeps no runs does not pay for it
    from deviceplugin.runs.keeping import Keeping
    from deviceplugin.telemetry.model import TelemetryView

LOOK_S = 5.0
PLAIN = "text/plain; charset=utf-8"
OFF = Response("404 Not Found", PLAIN, "runs.enabled is false\n")
STARTING = Response("503 Service Unavailable", PLAIN, "this part of the daemon begins\n")
HIDDEN = Response(
    "403 Forbidden", PLAIN, "runs name namespaces and owners of pods, metrics.pods does not\n"
)


class OfNode(Sectioned, Protocol):
    """A configuration, as this part sees it."""

    @property
    def node_name(self) -> str:
        """The node's name in Kubernetes."""

    @property
    def state_dir(self) -> Path:
        """Where runs are kept."""

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Where they are shown, None where they are nowhere."""


class Holdings(Protocol):
    """What containers hold, as the ledger knows it."""

    @property
    def answered(self) -> bool:
        """Whether it is known yet."""

    def held(self) -> Iterable[Held]:
        """Each id that a container holds, and the device behind it."""


class Around(Struct, frozen=True):
    """The clock (Unix seconds), who holds what, and what is measured, None where nothing is."""

    now: Callable[[], float]
    ledger: Holdings
    view: "Latest[TelemetryView | None]"


class RunsPart(Part[OfNode]):
    """Keeps runs while its section is on, and gives them at `/runs`."""

    def __init__(self, config: OfNode, around: Around, look_s: float = LOOK_S) -> None:
        self._around, self._look_s = around, look_s
        self._changed = asyncio.Event()
        self._take(config)
        self._keeping: Keeping | None = None

    def _take(self, config: OfNode) -> None:
        self._section = runs_section(config.sections)
        self._node, self._state_dir = config.node_name, config.state_dir
        self._pods = names_pods(config.sections, config.metrics_address)

    def tasks(self) -> Mapping[str, Once]:
        """The looks at who holds what."""
        return {"runs": self._run}

    async def use(self, config: OfNode) -> None:
        """Keep them or not from now on; what was kept stays in its file."""
        self._take(config)
        self._changed.set()

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"runs": self}

    def routes(self) -> Mapping[str, Page]:
        """The runs for whoever learns."""
        return {"/runs": self._page}

    def remark(self) -> str:
        """That runs are lost."""
        failing = self._keeping.failing if self._keeping else ""
        return f"runs of containers cannot be written: {failing}" if failing else ""

    def collect(self) -> Iterable[Series]:
        """How many there are."""
        keeping = self._keeping
        if keeping is None:
            return ()
        from deviceplugin.runs.metrics import series_of  # noqa: PLC0415  # where it is on

        return series_of(keeping.running, keeping.ended, failing=bool(keeping.failing))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if self._section.enabled:
                await self._keep()
            else:
                await self._changed.wait()

    async def _keep(self) -> None:
        """Until the section is off."""
        from deviceplugin.runs.keeping import Keeping  # noqa: PLC0415  # loads SQLite

        keeping, around = Keeping(self._state_dir), self._around
        self._keeping = keeping
        try:
            while self._section.enabled:
                view = around.view.value
                if around.ledger.answered:
                    await keeping.look(around.ledger.held(), view, around.now())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_s):
                        await around.view.next(view)
        finally:
            self._keeping = None
            await keeping.close(around.now())

    def _page(self) -> Response:
        """On a thread of its own."""
        keeping = self._keeping
        if not self._section.enabled:
            return OFF
        if not self._pods:
            return HIDDEN
        if keeping is None:
            return STARTING
        from deviceplugin.learning.nodes import encode  # noqa: PLC0415  # where it is on

        now = self._around.now()
        try:
            runs = keeping.store.runs(now)
        except OSError as error:
            return Response("503 Service Unavailable", PLAIN, f"{error}\n")
        return Response("200 OK", "application/json", encode(self._node, now, runs))
