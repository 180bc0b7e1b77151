"""Whether a kubelet listens on its registration socket; what is registered there is not known here.

A restarted kubelet admits pods 45 to 75 ms after its socket appears and kills those whose plugin
is not registered yet (kubernetes#138446), so the socket is watched with inotify and tested with a
raw connect: gRPC's own first retry comes after a second. Without inotify (busy nodes run out of its
instances) the file is polled with stat.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import structlog
from msgspec import Struct

from deviceplugin.runtime.inotify import Inotify, Mask
from deviceplugin.runtime.latest import Latest

log = structlog.get_logger()

_PROBE_S = 0.001
_PROBES = 500
_POLL_WITH_INOTIFY_S = 5.0  # for what is mounted over the directory
_POLL_ALONE_S = 0.05
_EVENTS = Mask.CREATE | Mask.MOVED_TO | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED


class SocketIdentity(Struct, frozen=True):
    """Which socket file it is: the path alone is not enough, it stays when a kubelet ends.

    The time is that of its creation: unlike the change time it does not change with the mode, the
    owner or a new link.
    """

    inode: int
    made_ns: int


def read_identity(path: Path) -> SocketIdentity | None:
    """The identity of the file at `path`, None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return SocketIdentity(status.st_ino, status.st_mtime_ns)


def is_listening(path: Path) -> bool:
    """Whether somebody accepts connections on the unix socket at `path`; never blocks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # the backlog is full: somebody listens
            return True
        except OSError:
            return False
    return True


class KubeletSocket:
    """The kubelet's registration socket; `listening` is its identity while it accepts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listening: Latest[SocketIdentity | None] = Latest(None)
        self._woken = asyncio.Event()
        self._woken.set()

    def check(self) -> None:
        """Check at once, because there was a sign that the kubelet is gone."""
        if not is_listening(self.path):
            self._gone()
        self._look()
        self._woken.set()

    async def watch(self) -> None:
        """Keep `listening` up to date; runs until cancelled."""
        while True:
            try:
                with Inotify() as inotify:
                    await self._watch_with(inotify)
            except OSError as error:
                log.debug("inotify_unavailable", path=str(self.path.parent), error=str(error))
                await self._follow(_POLL_ALONE_S)

    async def _watch_with(self, inotify: Inotify) -> None:
        """Until the directory goes away; raises OSError where it cannot be watched."""
        inotify.add_watch(self.path.parent, _EVENTS)
        reader = asyncio.create_task(self._read(inotify))
        try:
            while not reader.done():
                await self._follow(_POLL_WITH_INOTIFY_S)
        finally:
            reader.cancel()

    async def _read(self, inotify: Inotify) -> None:
        while True:
            for event in await inotify.events():
                if event.mask & _GONE:
                    self._woken.set()
                    return
                if event.mask & Mask.Q_OVERFLOW or event.name == self.path.name:
                    self._woken.set()

    async def _follow(self, poll_s: float) -> None:
        """Check several times right after a sign of change, then wait for the next sign."""
        probes = _PROBES if self._woken.is_set() else 1
        self._woken.clear()
        for _ in range(probes):
            self._look()
            if self.listening.value is not None:
                break
            await asyncio.sleep(_PROBE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_s):
                await self._woken.wait()

    def _gone(self) -> None:
        """One line, however many resources were registered with it."""
        if self.listening.set(None):
            log.warning("kubelet_gone", socket=str(self.path))

    def _look(self) -> None:
        identity = read_identity(self.path)
        if identity == self.listening.value:
            return
        if identity is None or not is_listening(self.path):
            self._gone()
            return
        if read_identity(self.path) != identity:  # replaced between stat and connect
            self._woken.set()
            return
        self.listening.set(identity)
        log.info("kubelet_listening", socket=str(self.path))
