"""Runs what uses a GPU as a process group of its own: bounded in time and output, killed as a
whole, and never left alone by us, however we end (see `child.py`)."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.errors import DevicePluginError
from deviceplugin.names import one_line

GRACE_S = 60.0  # to start, to have its code compiled, and to end
MAX_OUTPUT = 1 << 20
_LIMIT = 1 << 16
_END_S = 5.0
_CHILD = "deviceplugin.diagnose.active.child"


class OutputError(DevicePluginError):
    """What was started said nothing that can be used: it ended early, or printed too much."""


class HangsError(OutputError):
    """What was started did not end in time."""


class Printed(Struct, frozen=True, kw_only=True):
    """What a program printed, and its exit status."""

    text: str
    status: int


class Runner(Struct, frozen=True, kw_only=True):
    """`lock` is inherited by all that is started; None where there is none. `variables` are added
    to the environment."""

    lock: int | None = None
    variables: Mapping[str, str] = {}
    grace_s: float = GRACE_S

    async def child(self, *arguments: str, seconds: float) -> Mapping[str, Any]:
        """What our child process found; raises OutputError."""
        printed = await self._run(arguments, seconds, both=False)
        return parse_found(printed)

    async def tool(self, command: Sequence[str], seconds: float) -> Printed:
        """What a program of the vendor printed; raises OutputError."""
        return await self._run(("exec", *command), seconds, both=True)

    async def _run(self, arguments: Sequence[str], seconds: float, *, both: bool) -> Printed:
        """With standard error among the output where `both`."""
        command = (sys.executable, "-P", "-m", _CHILD, str(os.getpid()), *arguments)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if both else asyncio.subprocess.DEVNULL,
            limit=_LIMIT,
            env={**os.environ, **self.variables},
            pass_fds=() if self.lock is None else (self.lock,),
            start_new_session=True,
            cwd=Path("/"),
        )
        try:
            async with asyncio.timeout(seconds + self.grace_s):
                text = await _read(process.stdout) if process.stdout else b""
                status = await process.wait()
        except TimeoutError:
            raise HangsError(f"it did not end within {seconds + self.grace_s:g} s") from None
        finally:
            await _end(process)
        return Printed(text=text.decode("utf-8", "replace"), status=status)


async def _read(output: asyncio.StreamReader) -> bytes:
    found = bytearray()
    while piece := await output.read(_LIMIT):
        found += piece
        if len(found) > MAX_OUTPUT:
            raise OutputError(f"it printed more than {MAX_OUTPUT >> 20} MiB")
    return bytes(found)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group, also what a tool that has ended left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # One that hangs in the driver ends when the driver lets it: its lock is held until then.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()


def parse_found(printed: Printed) -> Mapping[str, Any]:
    """The line of JSON of our child; raises OutputError."""
    try:
        found = json.loads(printed.text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        how = f"signal {-printed.status}" if printed.status < 0 else f"status {printed.status}"
        raise OutputError(
            f"it ended with {how} and said {one_line(printed.text, 100) or 'nothing'}"
        )
    return found
