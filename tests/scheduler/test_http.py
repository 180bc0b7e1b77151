"""The extender's HTTP server: peers that are slow, ask for much, or are there when it ends."""

import asyncio
import contextlib
import json
from collections.abc import Callable

import pytest

from deviceplugin.kubernetes.api import Access, Api
from deviceplugin.scheduler import http
from deviceplugin.scheduler.http import MAX_PEERS, Answer, Request, Server
from deviceplugin.scheduler.service import Service, Settings

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASKED = b"GET /x HTTP/1.1\r\n\r\n"
FOUND = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/x"


def echo(request: Request) -> Answer:
    if request.path == "/bad":
        raise KeyError(request.path)
    return Answer(request.path.encode(), "200 OK", "text/plain")


async def connect(port: int, sent: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def hang_up(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def asked(port: int, sent: bytes = ASKED) -> bytes:
    """What is answered before the peer hangs up."""
    reader, writer = await connect(
        port, sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    )
    try:
        return await reader.read()
    finally:
        await hang_up(writer)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /x HT", b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"],
    ids=["nothing", "half a head", "half a body"],
)
async def test_slow_peers_keep_nobody_out(begun: bytes) -> None:
    server = Server(echo)
    port = await server.listen(("127.0.0.1", 0), None)
    slow = [await connect(port, begun) for _ in range(MAX_PEERS)]
    await until(lambda: len(server._peers) == MAX_PEERS)
    assert (await asked(port)).endswith(b"/x")
    assert await slow[0][0].read() == b""  # the first one had to go
    assert len(server._peers) <= MAX_PEERS
    await hang_up(*(writer for _, writer in slow))
    await server.finish()


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110  # the peers bring it about
            await asyncio.sleep(0.001)


async def test_bodies_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODIES_BYTES", 100)
    server = Server(echo)
    port = await server.listen(("127.0.0.1", 0), None)
    post = b"POST /x HTTP/1.1\r\nContent-Length: 60\r\n\r\n"
    first = await connect(port, post)
    await until(lambda: server._reading == 60)
    assert (await asked(port, post)).startswith(b"HTTP/1.1 503 ")
    first[1].write(b"x" * 60)
    assert (await first[0].readuntil(b"/x")).startswith(b"HTTP/1.1 200 ")
    assert server._reading == 0
    await hang_up(first[1])
    await server.finish()


async def test_a_request_that_fails_is_answered_and_so_is_the_next_one() -> None:
    server = Server(echo)
    port = await server.listen(("127.0.0.1", 0), None)
    reader, writer = await connect(port, b"GET /bad HTTP/1.1\r\n\r\n" + ASKED)
    assert (await reader.readuntil(b"log says why\n")).startswith(b"HTTP/1.1 500 ")
    assert await reader.readexactly(len(FOUND)) == FOUND
    await hang_up(writer)
    await server.finish()


async def test_who_has_asked_is_answered_at_the_end_and_the_others_are_let_go() -> None:
    server = Server(echo)
    port = await server.listen(("127.0.0.1", 0), None)
    idle = await connect(port, ASKED)
    assert await idle[0].readexactly(len(FOUND)) == FOUND
    asking = await connect(port, b"POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{")
    await until(lambda: True in server._peers.values() and server._reading == 2)
    ending = asyncio.ensure_future(server.finish())
    assert await idle[0].read() == b""
    assert not ending.done()
    asking[1].write(b"}")
    answer = await asking[0].read()
    assert b"Connection: close" in answer
    assert answer.endswith(b"/x")
    await ending
    with pytest.raises(ConnectionRefusedError):
        await connect(port)
    await hang_up(idle[1], asking[1])


async def test_an_extender_that_ends_says_so_before() -> None:
    service = Service(Settings(address=("127.0.0.1", 0), linger_s=0.0))
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    nowhere = Api(Access(host="127.0.0.1", port=1))
    serving = asyncio.ensure_future(service.run(nowhere, listening.set_result))
    await listening
    service._missing.clear()
    assert service.answer(Request("GET", "/readyz", b"")).status == "200 OK"
    service.end()
    ready = service.answer(Request("GET", "/readyz", b""))
    assert (ready.status, ready.body) == ("503 Service Unavailable", b"it ends\n")
    body = json.dumps({"Pod": {"metadata": {"name": "p"}}, "NodeNames": []}).encode()
    assert service.answer(Request("POST", "/filter", body)).status == "200 OK"
    await serving
