"""A gRPC server is started whole, or not at all."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from deviceplugin.errors import RegistrationError
from deviceplugin.kubelet.limits import server_options

Handler = Any  # grpc's own class is generic over messages that differ


async def started(path: Path, handlers: Iterable[Handler], message_bytes: int) -> grpc.aio.Server:
    """A server that answers on the socket; raises RegistrationError where it cannot be bound."""
    server = grpc.aio.server(options=server_options(message_bytes))
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise RegistrationError(f"{path}: cannot be bound ({error})") from error
    await start(server, path)
    return server


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
