"""What of each look goes into the file, and what waits for a file that cannot be written."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import structlog

from deviceplugin.learning.nodes import Measured
from deviceplugin.runs.book import Book, Hold
from deviceplugin.runs.store import RunStore
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.model import TelemetryView

log = structlog.get_logger()

SAVE_S = 60.0  # of what runs; what comes and goes is written at once
MAX_WAITING = 1000  # runs that could not be written yet


class Keeping:
    """The book and its file; used on the loop, the file on a thread."""

    def __init__(self, state_dir: Path) -> None:
        self.store = RunStore(state_dir)
        self.ended, self.failing = 0, ""
        self._book: Book | None = None
        self._waiting: list[Measured] = []
        self._saved_at = float("-inf")
        self._view: TelemetryView | None = None

    @property
    def running(self) -> int | None:
        """How many containers hold GPUs, None before the first look."""
        return len(self._book.holds) if self._book else None

    async def look(self, held: Iterable[Held], view: TelemetryView | None, now: float) -> None:
        """Compare what is held with the last look, and take a new `view` into account."""
        if self._book is None:
            self._book = Book(await asyncio.to_thread(self._before))
        changed, ended = self._book.look(held, now)
        self.ended += len(ended)
        self._waiting = [*self._waiting, *ended][-MAX_WAITING:]
        if view is not None and view is not self._view:
            self._book.measure(view)
        self._view = view
        if changed or self._waiting or not 0 <= now - self._saved_at < SAVE_S:
            await self._save(now)

    async def close(self, now: float) -> None:
        """Write what runs, and let the file go."""
        if self._book is not None:
            await self._save(now)
        await asyncio.to_thread(self.store.close)

    def _before(self) -> list[Hold]:
        try:
            return self.store.holds()
        except OSError as error:
            self._tell(str(error))
            return []

    async def _save(self, now: float) -> None:
        """What cannot be written waits, and the newest of it stay."""
        self._saved_at = now
        waiting, holds = self._waiting, [*self._book.holds.values()] if self._book else []
        self._waiting = []
        try:
            await asyncio.to_thread(self.store.write, waiting, holds, now)
        except OSError as error:
            self._waiting = waiting
            self._tell(str(error))
        else:
            self._tell("")

    def _tell(self, failing: str) -> None:
        """Once per change."""
        if failing and not self.failing:
            log.warning("runs_not_written", error=failing)
        self.failing = failing
