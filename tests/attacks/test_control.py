"""Peers of the operators' socket that are refused: they are told so."""

import asyncio
import contextlib
import json
from pathlib import Path

from deviceplugin.runtime.control import FILE, MAX_PEERS, Control
from tests.rig import WAIT_S


async def test_a_peer_without_a_place_is_told_so_whatever_it_sent(short_dir: Path) -> None:
    control = Control({})
    serving = asyncio.create_task(control.serve(short_dir))
    await control.listening.wait()
    assert (short_dir / FILE).stat().st_mode & 0o777 == 0o600
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_PEERS):
            _, writer = await asyncio.open_unix_connection(short_dir / FILE)
            stack.callback(writer.close)
        reader, writer = await asyncio.open_unix_connection(short_dir / FILE)
        stack.callback(writer.close)
        writer.write(b"x" * 60_000 + b"\n")
        await writer.drain()
        async with asyncio.timeout(WAIT_S):
            answer = json.loads(await reader.read())
    assert answer == {"ok": False, "error": "too many at a time, try again"}
    serving.cancel()
    await asyncio.wait([serving])
