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
        loop.add_reader(listener, _answer, listener)
        try:
            yield
        finally:
            loop.remove_reader(listener)


def _answer(listener: socket.socket) -> None:
    """A peer that has gone again, or a descriptor that is not to be had, is no event."""
    with contextlib.suppress(OSError):
        peer, _ = listener.accept()
        with peer:
            peer.setblocking(False)
            peer.send(ANSWER)
