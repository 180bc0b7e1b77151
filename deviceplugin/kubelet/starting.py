"""A gRPC server is started whole, or not at all."""

import asyncio
from pathlib import Path

import grpc


async def start(server: grpc.aio.Server, path: Path) -> None:
    """Let the server on this socket begin to answer.

    Cancelled in between, gRPC's own start leaves a server that takes connections, never answers a
    call, and cannot be stopped: so it is waited for, and what it opened is closed again.
    """
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        await server.stop(None)
        remove(path)
        raise


def remove(path: Path) -> None:
    """Its socket, at the end: one call."""
    path.unlink(missing_ok=True)
