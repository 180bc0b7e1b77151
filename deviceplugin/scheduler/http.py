"""HTTP/1.1 with bodies and lasting connections, as kube-scheduler's client speaks it; bounded."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from msgspec import Struct

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 64 << 20  # whole nodes, where the scheduler is not nodeCacheCapable
MAX_PEERS = 64
IDLE_S = 120.0  # Go's client keeps a connection for 90 s
READ_S = 30.0


class Request(Struct, frozen=True):
    """What is asked."""

    method: str
    path: str
    body: bytes


class Answer(Struct, frozen=True):
    """What is answered; `status` is as in `200 OK`."""

    body: bytes
    status: str = "200 OK"
    content_type: str = "application/json"


App = Callable[[Request], Answer]


class _BadRequestError(Exception):
    """The peer does not speak HTTP, or sends more than is taken."""


async def serve(app: App, address: tuple[str, int], tls: ssl.SSLContext | None) -> asyncio.Server:
    """Answer by `app`, on the loop, one request at a time; raises OSError if it cannot bind."""
    peers: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(peers) >= MAX_PEERS:
            writer.close()
            return
        peers.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the process ends
                await _talk(app, reader, writer)
        finally:
            peers.discard(task)
            writer.close()

    return await asyncio.start_server(accept, *address, ssl=tls, limit=MAX_HEAD_BYTES)


async def _talk(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        while True:
            try:
                request, lasting = await _request(reader, writer)
            except (_BadRequestError, asyncio.LimitOverrunError) as error:
                answer, lasting = (
                    Answer(f"{error}\n".encode(), "400 Bad Request", "text/plain"),
                    False,
                )
            else:
                answer = app(request)
            writer.write(_encoded(answer, lasting=lasting))
            await asyncio.wait_for(writer.drain(), READ_S)
            if not lasting:
                return


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[Request, bool]:
    """The next request, and whether the connection is to last."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise _BadRequestError("no HTTP/1 request")
    fields = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    if "transfer-encoding" in fields:
        raise _BadRequestError("a body needs a Content-Length")
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or len(length) > 9:
        raise _BadRequestError("Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        raise _BadRequestError(f"a body has at most {MAX_BODY_BYTES} bytes")
    if fields.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await asyncio.wait_for(reader.readexactly(int(length)), READ_S)
    lasting = words[2] == "HTTP/1.1" and fields.get("connection", "").lower() != "close"
    return Request(words[0], words[1], body), lasting


def _encoded(answer: Answer, *, lasting: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
    )
    head += "" if lasting else "Connection: close\r\n"
    return f"{head}\r\n".encode() + answer.body
