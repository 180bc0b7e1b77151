"""gRPC servers whose socket file stays behind when they end, as that of a killed process does."""

import os
import shutil
import stat
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

SOCKET_PATH_MAX_BYTES = 107

# Any: a service has methods of several message types
Handler: TypeAlias = "grpc.GenericRpcHandler[Any, Any]"


async def serve_socket(public: Path, private: Path, handler: Handler) -> grpc.aio.Server:
    """Serve on `public`; ValueError when the path is too long for a unix socket.

    gRPC unlinks at its end the path it has bound: it binds `private`, and `public` is a second
    link to that socket. So `public` appears already listening, and remains after the end.
    """
    if len(os.fsencode(public)) > SOCKET_PATH_MAX_BYTES:
        raise ValueError(f"socket path over {SOCKET_PATH_MAX_BYTES} bytes: {public}")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{private}")
    await server.start()
    os.link(private, public)
    return server


def remove_top_level_sockets(directory: Path) -> None:
    """Clean up as the kubelet does at its start: sockets of the top level only, links followed."""
    for entry in directory.iterdir():
        try:
            is_socket = stat.S_ISSOCK(entry.stat().st_mode)
        except FileNotFoundError:
            continue
        if is_socket:
            entry.unlink()


def remove_directory(directory: Path) -> None:
    """Remove the directory with everything in it."""
    shutil.rmtree(directory, ignore_errors=True)
