"""The plugin as a process: started, ended and looked at by the suite."""

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children hold open."""

    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.files} open files, {self.threads} threads"


def usage_of(pid: int) -> Usage:
    """Raises psutil.Error where the process is gone or belongs to somebody else."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return Usage(sum(p.num_fds() for p in family), sum(p.num_threads() for p in family))


class PluginProcess:
    """One instance of the plugin; its output goes to `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, command: tuple[str, ...], log: Path) -> "PluginProcess":
        """Start the plugin without a shell; OSError where that is not possible."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.returncode

    async def end(self, number: signal.Signals, timeout_s: float) -> float:
        """Send a signal and wait for the end, seconds; it is killed after timeout_s."""
        started_s = time.monotonic()
        if self.status is None:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        return time.monotonic() - started_s

    def tail(self) -> str:
        """The last line of its output, for messages."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"
