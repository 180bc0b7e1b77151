"""What the daemon and the process that has NVML loaded say to each other; bounded and typed.

A question opens a socket of its own (its other end travels over the control socket) and is
answered on it. A message is its length in four bytes and MessagePack.
"""

import socket
import time
from types import MappingProxyType
from typing import Any, Self, TypeVar

import msgspec

from deviceplugin.errors import DiscoveryError, LibraryError, UnavailableError, VendorError
from deviceplugin.model import Device, Fault
from deviceplugin.vendor import DeviceProcess, Sample
from deviceplugin.vendors.nvidia.probes import GpuReadings
from deviceplugin.vendors.nvidia.session import Snapshot

MAX_BYTES = 1 << 20  # a snapshot of 16 GPUs with all their links takes 40 KiB
_LENGTH_BYTES = 4
M = TypeVar("M")


class TakeSnapshot(msgspec.Struct, frozen=True, tag=True):
    """Take a snapshot of all GPUs: answered by Taken or Failed."""

    host_root: str
    driver_root: str
    library_dirs: tuple[str, ...] = ()


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Ask how a GPU is: answered by Asked or Failed."""

    device: Device


class Watch(msgspec.Struct, frozen=True, tag=True):
    """Tell of events: answered by any number of Beat, Happened and Rediscover, then by Ended."""

    devices: tuple[Device, ...]


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Measure a GPU and its instances, or list the processes on devices: answered by Values or
    Failed."""

    devices: tuple[Device, ...]
    processes: bool = False


class Taken(msgspec.Struct, frozen=True, tag=True):
    snapshot: Snapshot


class Asked(msgspec.Struct, frozen=True, tag=True):
    answers: GpuReadings


class Values(msgspec.Struct, frozen=True, tag=True):
    sample: Sample = Sample()
    processes: tuple[DeviceProcess, ...] = ()


class Happened(msgspec.Struct, frozen=True, tag=True):
    fault: Fault


class Rediscover(msgspec.Struct, frozen=True, tag=True):
    """Something changed."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Nothing happened, and the wait for events returned."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """Nothing more can be heard of these devices."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A VendorError on its way; `call` and `code` are those of a LibraryError."""

    text: str
    call: str | None = None
    code: int = 0
    unavailable: bool = False

    @classmethod
    def of(cls, error: VendorError) -> "Failed":
        """The message for an error."""
        if isinstance(error, LibraryError):
            return cls(error.text, error.call, error.code)
        return cls(str(error), unavailable=isinstance(error, UnavailableError))

    def error(self) -> VendorError:
        """The error again."""
        if self.call is not None:
            return LibraryError(self.call, self.code, self.text)
        return (UnavailableError if self.unavailable else DiscoveryError)(self.text)


Question = TakeSnapshot | Ask | Watch | Measure
Answer = Taken | Asked | Values | Happened | Rediscover | Beat | Ended | Failed


class Channel:
    """One end of a question's socket; closed by `with`."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The other end hears of it."""
        self._socket.close()

    def send(self, message: msgspec.Struct) -> None:
        """Raises OSError where nobody listens any more."""
        body = msgspec.msgpack.encode(message, enc_hook=_plain)
        self._socket.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def receive(self, kind: type[M], limit_s: float | None = None) -> M:
        """The next message, which must be a `kind`, within `limit_s` seconds (None: no limit).

        Raises TimeoutError, EOFError where the other end closed, msgspec.MsgspecError or
        OSError for anything else.
        """
        ends = None if limit_s is None else time.monotonic() + limit_s
        size = int.from_bytes(self._exactly(_LENGTH_BYTES, ends), "big")
        if size > MAX_BYTES:
            raise OSError(f"a message of {size} bytes")
        body = self._exactly(size, ends)
        try:
            return msgspec.msgpack.decode(body, type=kind, dec_hook=_ours)
        except RecursionError as error:
            raise OSError("a message that is nested too deep") from error

    def _exactly(self, size: int, ends: float | None) -> bytes:
        read = bytearray()
        while len(read) < size:
            if ends is not None:
                self._socket.settimeout(max(ends - time.monotonic(), 0.001))
            part = self._socket.recv(size - len(read))
            if not part:
                raise EOFError
            read += part
        return bytes(read)


def _plain(value: object) -> object:
    """What MessagePack cannot hold, as something that it can."""
    if isinstance(value, MappingProxyType):
        return dict(value)
    if isinstance(value, LibraryError):
        return (value.call, value.code, value.text)
    raise TypeError(f"{type(value).__name__} is not sent")


def _ours(kind: type, value: Any) -> Any:  # Any: whatever the other end said, converted here
    if kind is LibraryError:
        return LibraryError(*msgspec.convert(value, tuple[str, int, str]))
    raise TypeError(f"{kind.__name__} is not received")
