"""A command that prints something, run to its end: bounded in time and in what it prints."""

import asyncio
from collections.abc import Sequence

from deviceplugin.errors import DevicePluginError

MAX_BYTES = 16 << 20


async def printed(
    command: Sequence[str], deadline_s: float, most: int = MAX_BYTES
) -> tuple[bytes, int]:
    """What it printed and its exit status; killed where it takes longer or prints more.

    Raises DevicePluginError for that, OSError where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(deadline_s):
            text = await _read(process.stdout, most) if process.stdout else b""
            return text, await process.wait()
    except TimeoutError:
        raise DevicePluginError(f"no answer within {deadline_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read(output: asyncio.StreamReader, most: int) -> bytes:
    found = bytearray()
    while piece := await output.read(1 << 16):
        found += piece
        if len(found) > most:
            raise DevicePluginError(f"an answer of more than {most >> 20} MiB")
    return bytes(found)
