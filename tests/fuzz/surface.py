"""What a fuzz target is, and how bytes become the values that it needs."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
from msgspec import Struct

T = TypeVar("T")
MAX_LINE = 2000


class Surface(Struct, frozen=True, kw_only=True):
    """A target with what it is started from: whole inputs, and words that its inputs are made of.

    `examples` is how many inputs the tests try.
    """

    target: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    examples: int = 100


class Source:
    """Takes values from bytes; when they are used up, zeros and empty texts come."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def number(self, limit: int) -> int:
        """From 0 up to and without `limit`."""
        return int.from_bytes(self.take(1 if limit <= 256 else 2), "little") % limit

    def choice(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def line(self) -> bytes:
        """Up to the next line end."""
        line, _, self._data = self._data.partition(b"\n")
        return line


def text_of(data: bytes) -> str:
    """As a host's file is read."""
    return data.decode("utf-8", "replace")


def is_line(text: str, limit: int = MAX_LINE) -> bool:
    """Whether people can be shown it as one line."""
    return 0 < len(text) <= limit and "\n" not in text and text.isprintable()


def be_quiet() -> None:
    """Drop what is logged."""
    structlog.configure(processors=[_drop])


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


@contextmanager
def directory() -> Iterator[Path]:
    """A short one, in memory where the machine has such: sockets lie in some of them."""
    memory = "/dev/shm"
    path = Path(tempfile.mkdtemp(prefix="f", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield path
    finally:
        shutil.rmtree(path)
