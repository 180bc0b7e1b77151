"""A command that prints something, run to its end: bounded in time and in what it prints.

What outlives us, and whose output goes to a file, is a program (`programs.py`).
"""

import asyncio
import contextlib
from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.errors import DevicePluginError

MAX_BYTES = 16 << 20
_SAID = 4096  # of standard error, its end
_PIECE = 1 << 16


class Printed(Struct, frozen=True, kw_only=True):
    """What a command printed, its exit status, and the end of what it said on standard error, as
    one line."""

    text: bytes
    status: int
    said: str = ""


async def printed(command: Sequence[str], deadline_s: float, most: int = MAX_BYTES) -> Printed:
    """What it printed; killed where it takes longer or prints more.

    Raises DevicePluginError for that, OSError where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = asyncio.ensure_future(_end_of(process.stderr))
    try:
        async with asyncio.timeout(deadline_s):
            text = await _read(process.stdout, most)
            status = await process.wait()
            return Printed(text=text, status=status, said=await said)
    except TimeoutError:
        raise DevicePluginError(f"no answer within {deadline_s:g} s") from None
    finally:
        said.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _read(output: asyncio.StreamReader | None, most: int) -> bytes:
    found = bytearray()
    while output is not None and (piece := await output.read(_PIECE)):
        found += piece
        if len(found) > most:
            raise DevicePluginError(f"an answer of more than {most >> 20} MiB")
    return bytes(found)


async def _end_of(errors: asyncio.StreamReader | None) -> str:
    found = b""
    while errors is not None and (piece := await errors.read(_PIECE)):
        found = (found + piece)[-_SAID:]
    return " ".join(found.decode("utf-8", "replace").split())
