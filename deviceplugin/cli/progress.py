"""What a command says while it works for more than a second: on a terminal, and gone after."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TextIO

AFTER_S = 1.0
EVERY_S = 0.5
_ERASED = "\r\x1b[K"


class Progress:
    """What is being done now; written by a thread of its own, so that the work need not know."""

    def __init__(self, what: str, stream: TextIO, after_s: float) -> None:
        self.what = what
        self._stream, self._after_s = stream, after_s
        self._ended = Event()

    def show(self) -> None:
        """Until the end, if it lasts; nothing is left of it then."""
        begun = time.monotonic()
        if self._ended.wait(self._after_s):
            return
        while True:
            line = f"{self.what} ... {time.monotonic() - begun:.0f} s"
            self._write(f"{_ERASED}{line[: _columns(self._stream) - 1]}")
            if self._ended.wait(EVERY_S):
                self._write(_ERASED)
                return

    def end(self) -> None:
        self._ended.set()

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


@contextmanager
def progress(
    what: str, stream: TextIO | None = None, after_s: float = AFTER_S
) -> Iterator[Progress]:
    """Says `what` on standard error, with seconds, from the first second on until the block ends.

    Nothing at all in a pipe, in a file and in a terminal that cannot erase a line.
    """
    stream = stream or sys.stderr
    told = Progress(what, stream, after_s)
    if not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield told
        return
    thread = Thread(target=told.show, daemon=True, name="progress")
    thread.start()
    try:
        yield told
    finally:
        told.end()
        thread.join()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
