"""HTTP/1.1 with bodies and lasting connections, as kube-scheduler's client speaks it; bounded."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from msgspec import Struct

from deviceplugin.runtime.guard import guarded

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 64 << 20  # whole nodes, where the scheduler is not nodeCacheCapable
MAX_BODIES_BYTES = 128 << 20  # of all that are being read: the pod's memory has a limit
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


class _RefusedError(Exception):
    """The peer does not speak HTTP, or sends more than is taken; `status` says which."""

    def __init__(self, reason: str, status: str = "400 Bad Request") -> None:
        super().__init__(reason)
        self.status = status


class _Head(Struct, frozen=True):
    method: str
    path: str
    length: int
    lasting: bool
    expects: bool


class Server:
    """Answers by an app on the loop, one request at a time. When all places for peers are taken,
    the one that has been waited for longest has to go: nobody keeps others out by being slow."""

    def __init__(self, app: App) -> None:
        self._app = guarded("scheduler request", app, _failed)
        # Each peer is waited for, the first one for longest; whether it has asked something.
        self._peers: dict[asyncio.Task[None], bool] = {}
        self._reading = 0  # bytes of bodies
        self._ending = False
        self._server: asyncio.Server | None = None

    async def listen(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> int:
        """The port, from which on it answers; raises OSError if it cannot be had."""
        self._server = await asyncio.start_server(
            self._accept,
            *address,
            ssl=tls,
            limit=MAX_HEAD_BYTES,
            ssl_handshake_timeout=READ_S if tls else None,
        )
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Accept nobody any longer; waiting for it would be for connections that last."""
        if self._server is not None:
            self._server.close()

    async def finish(self) -> None:
        """The same, and answer first who has asked, READ_S at most."""
        self._ending = True
        self.close()
        asking = [task for task, asks in self._peers.items() if asks]
        for task in self._peers.keys() - {*asking}:
            task.cancel()
        if asking:
            await asyncio.wait(asking, timeout=READ_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        if len(self._peers) >= MAX_PEERS:
            longest = next(iter(self._peers))
            del self._peers[longest]
            longest.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):  # another needs the place, or the end
                await self._talk(task, reader, writer)
        finally:
            self._peers.pop(task, None)
            writer.close()

    def _wait_for(self, task: asyncio.Task[None], *, asks: bool) -> None:
        self._peers.pop(task, None)
        self._peers[task] = asks

    async def _talk(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            lasting = True
            while lasting and not self._ending:
                try:
                    self._wait_for(task, asks=False)
                    text = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
                    self._wait_for(task, asks=True)
                    head = _head_of(text)
                    request = await self._request(head, reader, writer)
                except (_RefusedError, asyncio.LimitOverrunError) as error:
                    status = getattr(error, "status", "400 Bad Request")
                    answer, lasting = Answer(f"{error}\n".encode(), status, "text/plain"), False
                else:
                    answer, lasting = self._app(request), head.lasting and not self._ending
                writer.write(_encoded(answer, lasting=lasting))
                self._wait_for(task, asks=True)
                await asyncio.wait_for(writer.drain(), READ_S)

    async def _request(
        self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request:
        if self._reading + head.length > MAX_BODIES_BYTES:
            raise _RefusedError("too much is being sent at once", "503 Service Unavailable")
        if head.expects:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._reading += head.length
        try:
            body = await asyncio.wait_for(reader.readexactly(head.length), READ_S)
        finally:
            self._reading -= head.length
        return Request(head.method, head.path, body)


def _failed(_: Request) -> Answer:
    text = b"this request cannot be answered: the log says why\n"
    return Answer(text, "500 Internal Server Error", "text/plain")


def _head_of(text: bytes) -> _Head:
    """Raises _RefusedError."""
    first, *lines = text.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise _RefusedError("no HTTP/1 request")
    fields = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    if "transfer-encoding" in fields:
        raise _RefusedError("a body needs a Content-Length")
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or len(length) > 9:
        raise _RefusedError("Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        raise _RefusedError(f"a body has at most {MAX_BODY_BYTES} bytes")
    return _Head(
        method=words[0],
        path=words[1],
        length=int(length),
        lasting=words[2] == "HTTP/1.1" and fields.get("connection", "").lower() != "close",
        expects=fields.get("expect", "").lower() == "100-continue",
    )


def _encoded(answer: Answer, *, lasting: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
    )
    head += "" if lasting else "Connection: close\r\n"
    return f"{head}\r\n".encode() + answer.body
