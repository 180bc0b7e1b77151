"""Unix sockets of ours: never open to others, and whose process is connected."""

import os
import socket
import struct
from pathlib import Path
from typing import Any


def bind_closed(path: Path) -> socket.socket:
    """A socket at `path`, where nothing may be, that only root and our user can connect to; it does
    not listen yet. Raises OSError."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file gets the mode of the socket; by its path it could be another file already.
        os.fchmod(bound.fileno(), 0o600)
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


def user_of(peer: Any) -> int:  # asyncio's TransportSocket has no type of its own
    """The peer's user as the kernel knows it (man 7 unix, SO_PEERCRED)."""
    size = struct.calcsize("3i")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])
