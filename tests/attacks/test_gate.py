"""What a peer of a plugin's socket may send, and who may be one."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deviceplugin.errors import RegistrationError
from deviceplugin.kubelet.frames import (
    BURST,
    FRAMES_PER_S,
    MAX_BLOCK_BYTES,
    MAX_FRAME_BYTES,
    MAX_UNFINISHED,
    Frames,
)
from deviceplugin.kubelet.gate import Gate, inner_socket
from deviceplugin.kubelet.limits import CONNECTIONS
from tests.attacks.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    frame,
    request,
)
from tests.rig import WAIT_S

MESSAGE_BYTES = 1 << 20
PINGS = frame(PING, 0, 0, b"12345678")


def begun(now: float = 0.0) -> Frames:
    frames = Frames(now)
    assert frames.problem(PREFACE, now) == ""
    return frames


def test_a_call_of_the_greatest_length_is_in_bounds() -> None:
    frames = begun()
    data = frame(HEADERS, END_HEADERS, 1, request())
    data += frame(DATA, 0, 1, b"x" * MAX_FRAME_BYTES) * (8 * 64)
    assert frames.problem(data, 0.0) == ""
    assert frames.wait_s() == 0


@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 1000])
def test_frames_are_the_same_however_they_are_cut(size: int) -> None:
    data = PREFACE + frame(HEADERS, END_HEADERS, 1, request()) + PINGS * 20
    data += frame(HEADERS, 0, 3, b"h" * MAX_BLOCK_BYTES) + frame(CONTINUATION, 0, 3, b"h")
    frames, found = Frames(0.0), []
    for at in range(0, len(data), size):
        found.append(frames.problem(data[at : at + size], 0.0))
        if found[-1]:
            break
    assert found[-1] == f"headers of more than {MAX_BLOCK_BYTES} bytes"
    assert at >= len(data) - 1 - 9 - size


def test_a_header_block_that_never_ends_is_refused_and_many_small_ones_are_not() -> None:
    frames = begun()
    for number in range(200):
        block = frame(HEADERS, 0, 2 * number + 1, b"h" * 100)
        block += frame(CONTINUATION, END_HEADERS, 2 * number + 1, b"h" * 100)
        assert frames.problem(block, 0.0) == ""
    assert frames.problem(frame(HEADERS, 0, 999, b"h" * 10_000), 0.0) == ""
    assert "headers" in frames.problem(frame(CONTINUATION, 0, 999, b"h" * 10_000), 0.0)


def test_a_frame_that_no_server_must_take_is_refused() -> None:
    head = frame(DATA, 0, 1, b"x" * (MAX_FRAME_BYTES + 1))[:9]
    assert begun().problem(head, 0.0) == f"a frame of more than {MAX_FRAME_BYTES} bytes"


def test_frames_that_come_too_fast_are_read_as_fast_as_others() -> None:
    frames, now, count = begun(), 0.0, 0
    while now < 10:
        assert frames.problem(PINGS * 100, now) == ""
        count += 100
        now += frames.wait_s()
    assert count == pytest.approx(BURST + 10 * FRAMES_PER_S, abs=200)


def test_what_has_not_ended_is_counted() -> None:
    frames, part = begun(), b"x" * 1000
    for stream in (1, 3, 5):
        assert frames.problem(frame(HEADERS, END_HEADERS, stream, request()), 0.0) == ""
        assert frames.problem(frame(DATA, 0, stream, part) * 2, 0.0) == ""
    assert frames.unfinished == 6000
    assert frames.problem(frame(DATA, END_STREAM, 1, part), 0.0) == ""
    assert frames.problem(frame(RST_STREAM, 0, 3, bytes(4)), 0.0) == ""
    assert frames.unfinished == 2000
    assert frames.problem(frame(HEADERS, END_STREAM | END_HEADERS, 5, request()), 0.0) == ""
    assert frames.unfinished == 0


def test_so_many_unfinished_requests_are_nobodys() -> None:
    frames, found = begun(), []
    for number in range(MAX_UNFINISHED + 1):
        found.append(frames.problem(frame(DATA, 0, 2 * number + 1, b"x"), 0.0))
    assert found[:-1] == [""] * MAX_UNFINISHED
    assert found[-1] == f"more than {MAX_UNFINISHED} unfinished requests"


@asynccontextmanager
async def gate(directory: Path) -> AsyncIterator[Gate]:
    """Before something that says what it hears, in capitals."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(1 << 16):
                writer.write(data.upper())
                await writer.drain()

    inner = inner_socket(directory / "sockets", "s.sock")
    server = await asyncio.start_unix_server(echo, inner)
    gate = Gate(directory / "door", inner, MESSAGE_BYTES)
    try:
        async with gate.open():
            yield gate
    finally:
        server.close()


async def exchange(directory: Path, data: bytes) -> bytes:
    """What comes back, as many bytes or fewer where the connection ends."""
    reader, writer = await asyncio.open_unix_connection(directory / "door")
    writer.write(data)
    try:
        async with asyncio.timeout(WAIT_S):
            return await reader.readexactly(len(data))
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_what_is_in_bounds_passes_as_it_is(short_dir: Path) -> None:
    data = PREFACE + frame(DATA, 0, 1, b"abc" * 5000) * 100
    async with gate(short_dir):
        assert await exchange(short_dir, data) == data.upper()
        assert (short_dir / "door").stat().st_mode & 0o777 == 0o600


async def test_what_is_not_ends_the_connection_alone_and_is_said_once(short_dir: Path) -> None:
    bad = PREFACE + frame(HEADERS, 0, 1, b"h" * MAX_BLOCK_BYTES) + frame(CONTINUATION, 0, 1, b"h")
    async with gate(short_dir):
        with capture_logs() as logs:
            for _ in range(3):
                assert len(await exchange(short_dir, bad)) < len(bad)
        assert await exchange(short_dir, PREFACE + PINGS) == (PREFACE + PINGS).upper()
    assert [entry["event"] for entry in logs] == ["plugin_peer_refused"]


async def test_requests_without_an_end_cost_the_peer_that_has_most_of_them(short_dir: Path) -> None:
    small = PREFACE + frame(DATA, 0, 1, b"x" * 1000)
    rest = frame(DATA, 0, 1, b"x" * MAX_FRAME_BYTES)
    async with gate(short_dir) as door:
        reader, writer = await asyncio.open_unix_connection(short_dir / "door")
        writer.write(small)
        async with asyncio.timeout(WAIT_S):
            assert await reader.readexactly(len(small)) == small.upper()
        with capture_logs() as logs:
            data = PREFACE + rest * (3 * MESSAGE_BYTES // len(rest))
            assert len(await exchange(short_dir, data)) < len(data)
        assert [entry["reason"] for entry in logs] == [
            f"unfinished requests of more than {2 * MESSAGE_BYTES} bytes"
        ]
        writer.write(rest)
        async with asyncio.timeout(WAIT_S):
            assert await reader.readexactly(len(rest)) == rest.upper()
        writer.close()
        assert door.peers


async def test_peers_beyond_the_places_are_refused_and_a_place_that_is_left_is_free(
    short_dir: Path,
) -> None:
    async with gate(short_dir) as door:
        held = [await asyncio.open_unix_connection(short_dir / "door") for _ in range(CONNECTIONS)]
        for _, writer in held:
            writer.write(PREFACE)
        for reader, _ in held:
            assert await reader.readexactly(len(PREFACE)) == PREFACE.upper()
        assert await exchange(short_dir, PREFACE) == b""
        held[0][1].close()
        async with asyncio.timeout(WAIT_S):
            while len(door.peers) == CONNECTIONS:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.001)
        assert await exchange(short_dir, PREFACE) == PREFACE.upper()
        for _, writer in held:
            writer.close()


async def test_a_peer_that_reads_nothing_is_not_read_either(short_dir: Path) -> None:
    frames = PREFACE + frame(DATA, 0, 1, b"x" * MAX_FRAME_BYTES) * 1000
    async with gate(short_dir):
        _, writer = await asyncio.open_unix_connection(short_dir / "door")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's
        writer.write(frames)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 1.0)
        # The rest is in no buffer of ours.
        assert writer.transport.get_write_buffer_size() > len(frames) / 2
        writer.transport.abort()
        assert await exchange(short_dir, PREFACE) == PREFACE.upper()


def test_grpc_listens_where_nobody_else_reaches_it(tmp_path: Path, short_dir: Path) -> None:
    found = inner_socket(short_dir / "sockets", "s.sock")
    assert found == short_dir / "sockets/s.sock"
    assert (short_dir / "sockets").stat().st_mode & 0o777 == 0o700
    (short_dir / "open").mkdir()
    (short_dir / "open").chmod(0o755)
    (short_dir / "link").symlink_to(short_dir / "sockets")
    (short_dir / "file").touch()
    inner_socket(short_dir / "open", "s.sock")
    assert (short_dir / "open").stat().st_mode & 0o777 == 0o700
    for bad in ("link", "file", "x" * 100):
        with pytest.raises(OSError, match=bad):
            inner_socket(short_dir / bad, "s.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="it needs a directory of another user")
def test_grpc_listens_in_no_directory_of_another_user(short_dir: Path) -> None:
    (short_dir / "theirs").mkdir(mode=0o700)
    os.chown(short_dir / "theirs", 1000, 1000)
    with pytest.raises(OSError, match="belongs to user 1000"):
        inner_socket(short_dir / "theirs", "s.sock")


async def test_what_stands_at_the_sockets_path_is_not_removed(short_dir: Path) -> None:
    (short_dir / "door").write_text("a file")
    with pytest.raises(RegistrationError, match="door: cannot be bound"):
        async with gate(short_dir):
            pass
    assert (short_dir / "door").read_text() == "a file"
