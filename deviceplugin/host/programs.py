"""What a program of the host was built from, read from its file and never by running it.

Go writes the package and the version of a program into its section `.go.buildinfo` (Go's
debug/buildinfo, the form since Go 1.18: the texts stand behind a head of 32 bytes).
"""

import os
import struct

from msgspec import Struct

from deviceplugin.files.reading import open_regular
from deviceplugin.host.host import Host

_SECTION_NAME, _MAGIC = b".go.buildinfo\0", b"\xff Go buildinf:"
_HEAD, _INLINE = 32, 2
_SENTINEL = 16  # random bytes before and after the text
_MAX_INFO = 1 << 18
# ELF64, little-endian, as on every machine that has these GPUs.
_ELF64 = b"\x7fELF\x02\x01"
_FILE_HEADER, _SECTION = struct.Struct("<40xQ10xHHH"), struct.Struct("<II8x8xQQ")
_SECTION_BYTES, _MAX_SECTIONS = 64, 4096


class GoProgram(Struct, frozen=True, kw_only=True):
    """`package` is what was built (`github.com/containerd/containerd/v2/cmd/containerd`), `text`
    all of its build information, as `go version -m` shows it."""

    package: str
    text: str


def read_go_program(host: Host, host_path: str) -> GoProgram | None:
    """None for a file that is absent, unreadable or not built by Go; a few pages are read."""
    try:
        descriptor = open_regular(host_path, str(host.root))
    except OSError:
        return None
    try:
        return _program(_build_info(descriptor))
    except (OSError, OverflowError, struct.error, IndexError):
        return None
    finally:
        os.close(descriptor)


def _program(info: bytes) -> GoProgram | None:
    if not info.startswith(_MAGIC) or not info[len(_MAGIC) + 1] & _INLINE:
        return None
    _, rest = _counted(info[_HEAD:])
    raw, _ = _counted(rest)
    text = raw[_SENTINEL:-_SENTINEL].decode("utf-8", "replace")
    lines = dict(line.split("\t")[:2] for line in text.splitlines() if "\t" in line)
    return GoProgram(package=lines.get("path", ""), text=text)


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """The first text, whose length stands before it in groups of seven bits, and the rest."""
    length, place = 0, 0
    while data[place] & 0x80:
        length |= (data[place] & 0x7F) << 7 * place
        place += 1
    length |= data[place] << 7 * place
    return data[place + 1 : place + 1 + length], data[place + 1 + length :]


def _build_info(descriptor: int) -> bytes:
    """The section's content; empty where there is none."""
    head = os.pread(descriptor, 64, 0)
    if head[:6] != _ELF64:
        return b""
    offset, size, count, names = _FILE_HEADER.unpack_from(head)
    if size != _SECTION_BYTES or not names < count <= _MAX_SECTIONS:
        return b""
    table = os.pread(descriptor, size * count, offset)
    sections = [_SECTION.unpack_from(table, n * size) for n in range(count)]
    _, _, place, length = sections[names]
    texts = os.pread(descriptor, min(length, _MAX_INFO), place)
    for name, _, place, length in sections:
        if texts[name:].startswith(_SECTION_NAME):
            return os.pread(descriptor, min(length, _MAX_INFO), place)
    return b""
