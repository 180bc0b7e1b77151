"""The plugin as a process: started, kept running, ended and looked at by the suite."""

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from msgspec import Struct

# A crash of Go ends with its registers or a line of source, one of klog with all goroutines.
_REASON = re.compile(
    r"panic: |fatal error: |F\d{4} \d\d:\d\d:\d\d|thread '.*' panicked|.*\blevel=fatal\b"
)
_ERROR = re.compile(r"\bE\d{4} \d\d:\d\d:\d\d|\blevel=error\b")
CANNOT_START = 127


class Usage(Struct, frozen=True):
    """What a process and its children hold open."""

    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.files} open files, {self.threads} threads"


class End(Struct, frozen=True, kw_only=True):
    """The plugin's process ended though nobody told it to.

    status: the exit status, or less than 0 the number of the signal. words: why, from its output.
    """

    at_s: float
    status: int
    words: str

    def __str__(self) -> str:
        how = f"with status {self.status}"
        if self.status < 0:
            how = f"by {signal.Signals(-self.status).name}"
        return f"the plugin ended {how}: {self.words}"


def usage_of(pid: int) -> Usage:
    """Raises psutil.Error where the process is gone or belongs to somebody else."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return Usage(sum(p.num_fds() for p in family), sum(p.num_threads() for p in family))


def last_words(output: str) -> str:
    """The line of a process's output that says best why it ended: of a panic, else the last."""
    lines = output.strip().splitlines()
    reasons = [line for line in lines if _REASON.match(line)]
    if not reasons and lines and lines[-1][0].isspace():  # an error that was logged with its stack
        reasons = [line for line in lines if _ERROR.search(line)]
    return (reasons or lines or ["no output"])[-1].strip()


class Instance:
    """The plugin's command, started again when it ends by itself, as a DaemonSet's container is.

    Each process writes to a log of its own, from `next_log`. restart_s: seconds until it is
    started again, None for never. `ended` is called for each end that nobody asked for, and says
    whether to start it again.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        next_log: Callable[[], Path],
        restart_s: float | None,
        ended: Callable[[End], bool],
    ) -> None:
        self.ends: list[End] = []
        self.is_leaving = False
        self._command, self._next_log = command, next_log
        self._restart_s, self._report = restart_s, ended
        self._leaving = asyncio.Event()
        self._spawning = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the command without a shell; OSError where that is not possible."""
        await self._spawn()
        self._keeping = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int | None:
        """Its process id, the last one's while none runs."""
        return self._process.pid if self._process else None

    @property
    def is_down(self) -> bool:
        """Whether it has no process and will not get one."""
        return self._keeping is not None and self._keeping.done()

    async def end(self, number: signal.Signals, timeout_s: float) -> float:
        """Send a signal and wait for the end, seconds; it is killed after timeout_s."""
        self.is_leaving = True
        self._leaving.set()
        async with self._spawning:
            process = self._process
        started_s = time.monotonic()
        if process is None:
            return 0.0
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        return time.monotonic() - started_s

    def tail(self) -> str:
        """Why it ended, or its last line, for messages."""
        return last_words(self._log.read_text(errors="replace"))

    async def _spawn(self) -> None:
        self._log = self._next_log()
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )

    async def _keep(self) -> None:
        while self._process is not None:
            status = await self._process.wait()
            if self.is_leaving:
                return
            is_wanted = self._note(status, self.tail())
            if self._restart_s is None or not is_wanted:
                return
            if await self._is_told_to_leave(self._restart_s):
                return
            async with self._spawning:
                if self.is_leaving:
                    return
                try:
                    await self._spawn()
                except OSError as error:
                    self._note(CANNOT_START, str(error))
                    return

    def _note(self, status: int, words: str) -> bool:
        end = End(at_s=time.monotonic(), status=status, words=words)
        self.ends.append(end)
        return self._report(end)

    async def _is_told_to_leave(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._leaving.wait()
        return self.is_leaving
