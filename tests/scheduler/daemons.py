"""Daemons of nodes on real sockets, each at an address of loopback of its own, all at one port."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial

from deviceplugin.learning.nodes import Measured, encode
from deviceplugin.learning.runs import Run
from deviceplugin.metrics.door import Door
from deviceplugin.metrics.http import HttpServer, application
from deviceplugin.runtime.part import Response
from tests.scheduler.objects import Document

FIRST = 2  # 127.0.0.2
TRIES = 50


def page_of(node: str, runs: Sequence[Run]) -> Response:
    text = encode(node, 1.0, [Measured(run=run) for run in runs])
    return Response("200 OK", "application/json", text)


@contextmanager
def daemons(*pages: Response, door: Door | None = None) -> Iterator[tuple[int, list[str]]]:
    """Servers as the daemon has them, with these pages as `/runs`: their port and addresses."""
    with ExitStack() as stack:
        port = _serve(stack, pages, door)
        yield port, [f"127.0.0.{FIRST + number}" for number in range(len(pages))]


def _serve(stack: ExitStack, pages: Sequence[Response], door: Door | None) -> int:
    """The port; another one where somebody else has it at one of the addresses."""
    for _ in range(TRIES):
        port = 0
        try:
            for number, page in enumerate(pages):
                app = application({"/runs": partial(_same, page)})
                server = HttpServer(app, (f"127.0.0.{FIRST + number}", port), door)
                stack.callback(server.close)
                port = server.port
        except OSError:
            stack.close()
        else:
            return port
    raise AssertionError("no port is free at all addresses")


def _same(page: Response) -> Response:
    return page


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """A peer at 127.0.0.2 that answers so whatever it is asked, or never (None): its port."""
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await ended.wait()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.2", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        ended.set()
        server.close()


def daemon_pod(node: str, address: str, **changes: object) -> Document:
    """A daemon's pod as the API server has it."""
    return {
        "metadata": {
            "name": f"deviceplugin-{node}",
            "namespace": "kube-system",
            "uid": f"uid-of-{node}",
            "labels": {"app.kubernetes.io/name": "deviceplugin"},
        },
        "spec": {"nodeName": node, "containers": [{"name": "deviceplugin"}]},
        "status": {"phase": "Running", "podIP": address},
    } | changes
