"""The Node Resource Interface's frames: two connections in one, each with ttrpc messages.

A frame of the trunk is a connection's number and a size, 4 bytes each, and so many bytes
(containerd/nri, pkg/net/multiplex). A ttrpc message is its size and its stream's number, 4 bytes
each, a type and flags, 1 byte each, and so many bytes (containerd/ttrpc, PROTOCOL.md). All big
endian.
"""

import struct
from collections.abc import Iterator

from msgspec import Struct

from deviceplugin.errors import DevicePluginError

PLUGIN, RUNTIME = 1, 2  # the connection on which we serve, and the one on which we ask
REQUEST, RESPONSE = 1, 2
MAX_MESSAGE = 4 << 20  # ttrpc's own limit
_TRUNK, _MESSAGE = struct.Struct(">II"), struct.Struct(">IIBB")
TRUNK_BYTES = _TRUNK.size


class NriError(DevicePluginError):
    """The runtime's end of the connection says what it must not, or refuses."""


class Message(Struct, frozen=True):
    """One ttrpc message."""

    stream: int
    kind: int
    body: bytes


def parse_trunk(header: bytes) -> tuple[int, int]:
    """The connection and the size of the frame that follows; raises NriError for one too large."""
    connection, size = _TRUNK.unpack(header)
    if size > MAX_MESSAGE + _MESSAGE.size:
        raise NriError(f"a frame of {size} bytes, at most {MAX_MESSAGE} are read")
    return connection, size


def frame(connection: int, message: Message) -> bytes:
    """A message as it is written to the trunk."""
    inner = _MESSAGE.pack(len(message.body), message.stream, message.kind, 0) + message.body
    return _TRUNK.pack(connection, len(inner)) + inner


class Messages:
    """The messages of one connection, whose frames end anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now; raises NriError for one that is too large."""
        self._rest += data
        while len(self._rest) >= _MESSAGE.size:
            size, stream, kind, _ = _MESSAGE.unpack_from(self._rest)
            if size > MAX_MESSAGE:
                raise NriError(f"a message of {size} bytes, at most {MAX_MESSAGE} are read")
            end = _MESSAGE.size + size
            if len(self._rest) < end:
                return
            body, self._rest = self._rest[_MESSAGE.size : end], self._rest[end:]
            yield Message(stream, kind, body)
