"""The way of records from the loop to the disk: a bounded queue and a thread of its own.

The loop never waits: what the queue cannot hold is counted, and the next record says how many are
missing.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import structlog
from msgspec import Struct

from deviceplugin.audit.chain import Chain
from deviceplugin.audit.record import Event
from deviceplugin.runtime.guard import outcome_of, start_guarded

log = structlog.get_logger()

MOST_WAITING = 10_000
BATCH = 1000
GATHER_S = 0.05  # one wake of the thread for all that comes meanwhile
TICK_S = 30.0
RETRY_S = 1.0
SYNC_S = 1.0
END_S = 1.5

Make = Callable[[], Event]


class Counts(Struct):
    """Since the daemon began."""

    recorded: int = 0
    lost: int = 0


class Writer:
    """Writes to `chain`; `now` gives Unix seconds. `put` is called on the loop alone."""

    def __init__(
        self, chain: Chain, now: Callable[[], float], counts: Counts, limit: int = MOST_WAITING
    ) -> None:
        self._chain, self._now, self.counts, self._limit = chain, now, counts, limit
        self._queue: deque[Make] = deque()
        self._pending: list[Event] = []
        self._wake, self._ending = threading.Event(), threading.Event()
        self._told = counts.lost  # how many lost ones the log has spoken of
        self.failing = ""
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Records that are not written yet."""
        return len(self._queue) + len(self._pending)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return self._chain.size_bytes

    def start(self) -> None:
        """Write from now on."""
        self._thread = start_guarded("audit", self._run)

    def put(self, make: Make) -> None:
        """Record what `make` gives, which is called on the thread."""
        if len(self._queue) >= self._limit:
            self.counts.lost += 1
            return
        self._queue.append(make)
        if not self._wake.is_set():
            self._wake.set()

    def keep(self, retention_s: float) -> None:
        """Keep files for so long."""
        self._chain.retention_s = retention_s

    def close(self) -> None:
        """Write what there is, and end; blocks for END_S at most."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(END_S)

    def _run(self) -> None:
        ending, synced_s = False, 0.0
        while not ending:
            soon = self.failing or not self._chain.is_synced
            woken = self._wake.wait(SYNC_S if soon else TICK_S)
            ending = self._ending.wait(RETRY_S if self.failing else GATHER_S)
            self._wake.clear()
            sync = ending or not woken or time.monotonic() - synced_s >= SYNC_S
            self.turn(sync=sync)
            synced_s = time.monotonic() if sync else synced_s
        self._chain.close()

    def turn(self, *, sync: bool = True) -> None:
        """Write all that waits, and `sync` it to the disk; on the thread."""
        try:
            if not self._chain.is_open:
                self._chain.open(self._now())
                self._chain.expire(self._now())
            self._chain.keep_time(self._now())
            while self._take():
                self._chain.append(self._pending)
                self.counts.recorded += len(self._pending)
                self._pending = []
            if sync:
                self._chain.sync()
        except OSError as error:
            self._chain.close()
            self._tell(error.strerror or str(error))
        else:
            self._tell("")

    def _take(self) -> bool:
        """Whether there is something to write: what could not be written comes first."""
        if self._pending:
            return True
        lost = self.counts.lost - self._told
        if lost:
            self._told += lost
            text = "records came faster than they could be written"
            gap = Event(kind="gap", at=self._now(), data={"lost": lost, "reason": text})
            self._pending.append(gap)
        while self._queue and len(self._pending) < BATCH:
            made = outcome_of(self._queue.popleft())
            if isinstance(made, Exception):
                self.counts.lost += 1
                log.error("audit_record_failed", error=repr(made))
            else:
                self._pending.append(made)
        return bool(self._pending)

    def _tell(self, problem: str) -> None:
        if problem and not self.failing:
            log.error(
                "audit_not_written",
                reason=problem,
                instead=f"up to {self._limit} records wait; then they are counted as lost",
            )
        elif self.failing and not problem:
            log.info("audit_written_again", lost=self.counts.lost)
        self.failing = problem
