"""One connection of the HTTP endpoint: what it waits for, and its bytes; nothing here blocks."""

import socket
import time
from collections.abc import Iterator
from enum import IntEnum

HEAD_S = 1.0
ANSWER_S = 5.0
MAX_HEAD_BYTES = 16 * 1024
# Of a TLS socket, whose handshake goes on as it is read and written; `ssl` is not loaded for them.
_WANTS = frozenset({"SSLWantReadError", "SSLWantWriteError"})


class Stage(IntEnum):
    """What a peer waits for; where places are short, an earlier one is given up first."""

    HEAD = 0
    UNREAD = 1  # it has its answer; closing now would take it back (RST) before it is read
    SENDING = 2
    ASKED = 3


class Peer:
    """One connection."""

    def __init__(self, connection: socket.socket, address: str) -> None:
        self.connection, self.address = connection, address
        self.number, self.has_entered = connection.fileno(), False
        self.stage = Stage.HEAD
        self.deadline = time.monotonic() + HEAD_S
        self.head = b""
        self.rest = memoryview(b"")
        self.unread = 0
        self.watched = 0  # selector events

    def await_answer(self) -> None:
        """It has asked."""
        self.stage, self.deadline = Stage.ASKED, time.monotonic() + ANSWER_S

    def received(self) -> Iterator[bytes]:
        """What is there now; an empty part is its end. Raises OSError."""
        while True:
            try:
                part = self.connection.recv(MAX_HEAD_BYTES)
            except OSError as error:
                if _would_block(error):
                    return
                raise
            yield part
            if not part:
                return

    def send(self) -> bool:
        """Whether everything is sent. Raises OSError."""
        try:
            while self.rest:
                self.rest = self.rest[self.connection.send(self.rest) :]
        except OSError as error:
            if not _would_block(error):
                raise
            return False
        return True


def _would_block(error: OSError) -> bool:
    return isinstance(error, BlockingIOError) or type(error).__name__ in _WANTS
