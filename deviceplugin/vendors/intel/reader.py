"""What is read of an Intel GPU through files and the DRM query; blocking."""

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.numbers import numbered

MemoryQuery = Callable[[str, str], int | None]


Exchange = Callable[[int, bytearray], None]


XE_DEVICE_QUERY = 0xC0286440


I915_QUERY = 0xC0106479


MAX_REPLY_BYTES = 1 << 16


_XE_ARGUMENT = struct.Struct("=QIIQ2Q")


_I915_ITEM = struct.Struct("=QiIQ")


_I915_ARGUMENT = struct.Struct("=IIQ")


_REGION = struct.Struct("=HHIQ")


_REGION_BYTES = 88


_XE_HEADER_BYTES = 8


_I915_HEADER_BYTES = 16


_LOCAL_MEMORY = 1


def query_memory(host: Host, driver: str, node: str) -> int | None:
    """Bytes of local memory of the card node `node`, as its driver (xe or i915) reports it.

    None where the node may not be opened, the driver refuses, or the GPU has no local memory.
    """
    ask = _QUERIES.get(driver)
    if ask is None:
        return None
    try:
        descriptor = os.open(host.path(node), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return ask(lambda request, argument: _exchange(descriptor, request, argument))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def query_xe(exchange: Exchange) -> int | None:
    """Ask the xe driver; raises OSError as the ioctl does."""
    argument = bytearray(_XE_ARGUMENT.pack(0, 1, 0, 0, 0, 0))
    exchange(XE_DEVICE_QUERY, argument)
    size = _XE_ARGUMENT.unpack(argument)[2]
    if not 0 < size <= MAX_REPLY_BYTES:
        return None
    reply = ctypes.create_string_buffer(size)
    exchange(
        XE_DEVICE_QUERY, bytearray(_XE_ARGUMENT.pack(0, 1, size, ctypes.addressof(reply), 0, 0))
    )
    return parse_regions(reply.raw, _XE_HEADER_BYTES)


def query_i915(exchange: Exchange) -> int | None:
    """Ask the i915 driver; raises OSError as the ioctl does."""
    size = _ask_i915(exchange, 0, 0)
    if not 0 < size <= MAX_REPLY_BYTES:
        return None
    reply = ctypes.create_string_buffer(size)
    if _ask_i915(exchange, size, ctypes.addressof(reply)) <= 0:
        return None
    return parse_regions(reply.raw, _I915_HEADER_BYTES)


def parse_regions(reply: bytes, header_bytes: int) -> int | None:
    """The summed sizes of the local memory regions in a reply of either driver.

    None where there is none, as for an integrated GPU, or where the reply is cut short.
    """
    if len(reply) < header_bytes:
        return None
    count = int.from_bytes(reply[:4], "little")
    if len(reply) < header_bytes + count * _REGION_BYTES:
        return None
    starts = (header_bytes + i * _REGION_BYTES for i in range(count))
    regions = (_REGION.unpack_from(reply, start) for start in starts)
    return sum(size for kind, _, _, size in regions if kind == _LOCAL_MEMORY) or None


def _ask_i915(exchange: Exchange, length: int, data: int) -> int:
    """One item of a query; a negative length is the kernel's error for that item."""
    item = ctypes.create_string_buffer(_I915_ITEM.pack(4, length, 0, data), _I915_ITEM.size)
    exchange(I915_QUERY, bytearray(_I915_ARGUMENT.pack(1, 0, ctypes.addressof(item))))
    return int(_I915_ITEM.unpack(item.raw)[1])


def _exchange(descriptor: int, request: int, argument: bytearray) -> None:
    fcntl.ioctl(descriptor, request, argument, True)


_QUERIES: Mapping[str, Callable[[Exchange], int | None]] = MappingProxyType(
    {"xe": query_xe, "i915": query_i915}
)


class Reader(Struct, frozen=True, kw_only=True):
    """A host, the DRM query and a notebook; `problems` name the file that could not be read."""

    host: Host
    query: MemoryQuery
    problems: list[str] = field(default_factory=list)

    def quiet(self) -> "Reader":
        """The same without notes, for debugfs, which only root sees and most nodes hide."""
        return replace(self, problems=[])

    def read_text(self, host_path: str) -> str | None:
        """The text of a file, None where it is absent or could not be read."""
        try:
            return self.host.read_text(host_path)
        except DiscoveryError as error:
            self.problems.append(str(error))
            return None

    def read_positive(self, host_path: str) -> int | None:
        """The number in a file; None where it is absent, unreadable, zero or negative."""
        try:
            value = self.host.read_int(host_path)
        except DiscoveryError as error:
            self.problems.append(str(error))
            return None
        return value if value is not None and value > 0 else None

    def read_sum(self, host_paths: list[str]) -> int | None:
        """The sum of several files' numbers: None unless every one has a positive number.

        Half of a sum, for instance one of two tiles, would be a wrong size and not a poor one.
        """
        values = [self.read_positive(path) for path in host_paths]
        known = [value for value in values if value is not None]
        return sum(known) if known and len(known) == len(values) else None

    def read_numbered(self, host_path: str, prefix: str) -> tuple[str, ...]:
        """The entries `<prefix><number>` of a directory, in the order of their numbers."""
        try:
            names = self.host.read_names(host_path)
        except DiscoveryError as error:
            self.problems.append(str(error))
            return ()
        return tuple(name for _, name in numbered(names, prefix))

    def read_query(self, driver: str | None, node: str | None) -> int | None:
        """What the driver itself says about its local memory, None where it cannot be asked."""
        return self.query(driver, node) if driver and node else None
