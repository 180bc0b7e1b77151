"""A gRPC client that costs next to nothing: one unary call after the other on a unix socket.

The kubelet's client is grpc-go's, which answers in some ten microseconds; that of grpcio for Python
takes longer than what is measured. So this one writes the frames of HTTP/2 (RFC 9113) itself: the
headers and the message of a call in one write, as grpc-go does, and then it reads.
"""

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW, _MAX_FRAME = 4, 5  # settings
_LARGEST = (1 << 31) - 1
_FIRST_WINDOW = 65_535
_HEAD = struct.Struct(">BHBBI")  # length in 8 + 16 bits, type, flags, stream


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header that no table remembers, without Huffman's code (RFC 7541, 6.2.2)."""
    parts = (text.encode() for text in (name, value))
    return b"\x00" + b"".join(bytes([len(part)]) + part for part in parts)


def _headers(method: str) -> bytes:
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    return b"".join(_literal(*field) for field in fields)


class Client:
    """One connection; raises RuntimeError where a call is refused or the server goes away."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._socket.connect(str(path))
        self._headers: dict[str, bytes] = {}
        self._buffer = bytearray()
        self._stream = -1
        self._room, self._stream_room = _FIRST_WINDOW, 0  # what may be sent
        self._initial_room, self._largest_frame = _FIRST_WINDOW, 16_384
        self._answer = bytearray()
        self._ended, self._taken = False, 0
        settings = struct.pack(">HIHI", _INITIAL_WINDOW, _LARGEST, _MAX_FRAME, (1 << 24) - 1)
        more = _frame(_WINDOW, 0, 0, struct.pack(">I", 1 << 30))
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, method: str, request: bytes) -> bytes:
        """The answer's bytes."""
        if method not in self._headers:
            self._headers[method] = _headers(method)
        self._stream += 2
        self._stream_room, self._ended = self._initial_room, False
        self._answer.clear()
        message = b"\x00" + struct.pack(">I", len(request)) + request
        head = _frame(_HEADERS, _END_HEADERS, self._stream, self._headers[method])
        self._send(head, memoryview(message))
        while not self._ended:
            self._read()
        return self._message()

    def _message(self) -> bytes:
        if not self._answer:  # an error's status comes without a message
            raise RuntimeError("the call was refused")
        answer = bytes(self._answer)
        (size,) = struct.unpack_from(">I", answer, 1)
        self._taken += len(answer)
        if self._taken > 1 << 28:  # a quarter of what the server was given room for
            self._socket.sendall(_frame(_WINDOW, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        return answer[5 : 5 + size]

    def _send(self, head: bytes, message: memoryview) -> None:
        """The message in as many frames and writes as the server has room for."""
        pieces = [head]
        while True:
            size = min(len(message), self._room, self._stream_room, self._largest_frame)
            last = size == len(message)
            if size or last:
                flags = _END_STREAM if last else 0
                pieces.append(_frame(_DATA, flags, self._stream, bytes(message[:size])))
                self._room -= size
                self._stream_room -= size
                message = message[size:]
            if last or not size:
                self._socket.sendall(b"".join(pieces))
                pieces.clear()
            if last:
                return
            if not size:
                self._read()

    def _read(self) -> None:
        """Take what has come, and wait for it where nothing has."""
        received = self._socket.recv(1 << 20)
        if not received:
            raise RuntimeError("the server has closed the connection")
        self._buffer += received
        at, end = 0, len(self._buffer)
        while end - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(self._buffer, at)
            following = at + 9 + (high << 16 | low)
            if following > end:
                break
            self._take(kind, flags, stream, bytes(self._buffer[at + 9 : following]))
            at = following
        del self._buffer[:at]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (_DATA, _HEADERS):
            if kind == _DATA:
                self._answer += payload
            self._ended = self._ended or bool(flags & _END_STREAM)
        elif kind == _SETTINGS and not flags & _ACK:
            self._use(payload)
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self._room += more
            elif stream == self._stream:
                self._stream_room += more
        elif kind in (_RESET, _GOAWAY):
            raise RuntimeError(f"the server ended the call: {payload!r}")

    def _use(self, settings: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", settings):
            if name == _INITIAL_WINDOW:
                self._stream_room += value - self._initial_room
                self._initial_room = value
            elif name == _MAX_FRAME:
                self._largest_frame = value
