"""Small files that look like programs built by Go: what `go version -m` reads of them is there."""

import struct
from pathlib import Path

_SECTION = ".go.buildinfo"
_NAMES = f"\0{_SECTION}\0.shstrtab\0".encode()
_HEAD, _ENTRY = 64, 64


def write_go_program(path: Path, package: str, *lines: str) -> None:
    """A program of `package`; each of `lines` is one more of its build information."""
    info = _build_info("\n".join((f"path\t{package}", *lines)) + "\n")
    body = info + _NAMES
    table = b"".join(
        (
            _section(0, 0, 0),
            _section(1, _HEAD, len(info)),
            _section(len(_SECTION) + 2, _HEAD + len(info), len(_NAMES)),
        )
    )
    head = struct.pack("<6s34xQ10xHHH", b"\x7fELF\x02\x01", _HEAD + len(body), _ENTRY, 3, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + body + table)


def _build_info(text: str) -> bytes:
    sentinel = bytes(16)
    head = b"\xff Go buildinf:\x08\x02".ljust(32, b"\0")
    return head + _counted(b"go1.25.0") + _counted(sentinel + text.encode() + sentinel)


def _counted(data: bytes) -> bytes:
    length, size = bytearray(), len(data)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*length, size]) + data


def _section(name: int, offset: int, size: int) -> bytes:
    return struct.pack("<II8x8xQQ", name, 1, offset, size).ljust(_ENTRY, b"\0")
