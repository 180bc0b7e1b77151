"""Whatever moment a server's start is cut off at, no socket is left that never answers."""

import asyncio
from pathlib import Path

import grpc
import pytest

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.kubelet.starting import start


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_start_that_is_cut_off_leaves_no_socket(
    turns: int, short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = short_dir / "a.sock"
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{path}")
    starting = asyncio.create_task(start(server, path))
    for _ in range(turns):  # of the loop, so that the start is cut off at each of its steps
        await asyncio.sleep(0)
    starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        assert not path.exists()
    else:
        assert is_listening(path), "it was started before it could be cut off"
    await server.stop(None)
    assert caplog.text == ""


async def test_the_first_steps_are_ones_that_can_be_cut_off(short_dir: Path) -> None:
    path = short_dir / "a.sock"
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{path}")
    starting = asyncio.create_task(start(server, path))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not path.exists()
