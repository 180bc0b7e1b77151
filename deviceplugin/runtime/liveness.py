"""Answers `deviceplugin.alive`: that it does is all there is to say, so the loop answers itself.

It is no network address and has no places: strangers reach none of it, and a peer holds nothing.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import structlog

from deviceplugin.alive import ADDRESS, ANSWER

log = structlog.get_logger()

RETRY_S = 1.0


@contextlib.contextmanager
def answering_liveness() -> Iterator[None]:
    """Answer on the running loop; without the socket /healthz alone says that we are alive."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(ADDRESS % os.getpid())
            listener.listen()
        except OSError as error:
            log.warning("no_liveness_socket", reason=error.strerror, instead="/healthz alone")
            yield
            return
        listener.setblocking(False)
        answers = _Answers(loop, listener)
        answers.begin()
        try:
            yield
        finally:
            answers.end()


class _Answers:
    """Answers each peer in one step."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        self._loop, self._listener = loop, listener
        self._again: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._loop.add_reader(self._listener, self._answer)

    def end(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._again is not None:
            self._again.cancel()

    def _answer(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it is gone again
            return
        except OSError:  # no descriptor is to be had
            self._loop.remove_reader(self._listener)
            self._again = self._loop.call_later(RETRY_S, self.begin)
            return
        with peer, contextlib.suppress(OSError):
            peer.setblocking(False)
            peer.send(ANSWER)
