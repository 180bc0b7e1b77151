"""Lists and watches a kind of the API server's objects, on a thread: HTTPS blocks here."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from deviceplugin.kubernetes.api import MAX_ANSWER_BYTES, ApiError
from deviceplugin.runtime.guard import outcome_of
from deviceplugin.scheduler.dynamic import Change
from deviceplugin.scheduler.kinds import Watched
from deviceplugin.scheduler.listing import Items, Listing, Reads, UnreadableError, named_of

log = structlog.get_logger()

WATCH_S = 300
QUIET_S = WATCH_S + 30.0  # the server ends a watch itself, unless the network is gone
PAUSE_S, LONG_PAUSE_S = 2.0, 60.0
GONE = 410
ABSENT = (403, 404)  # there is no such kind, or it is none of ours
MAX_TOLD = 20  # objects that are left out, until all can be read again
Kind = Change
# What happened: all that there is, or one object.
Changed = Callable[[Kind, Sequence[Any]], None]  # Any: objects of the kind that is watched


class _Event(Struct):
    type: str
    object: msgspec.Raw


class LeftOut:
    """The objects of a kind that could not be read when they were seen last."""

    def __init__(self, path: str) -> None:
        self._path, self._why = path, dict[str, str]()
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._why)

    def renew(self, why: Mapping[str, str]) -> None:
        """All of them, with the reasons."""
        self._why = {**why}
        for name in why:
            self._tell(name)
        if not why:
            self._told.clear()

    def put(self, name: str, why: str) -> None:
        """One more."""
        self._why[name] = why
        self._tell(name)

    def discard(self, name: str) -> None:
        """It can be read again, or is gone."""
        self._why.pop(name, None)

    def _tell(self, name: str) -> None:
        """Once, and of so many."""
        if name not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(name)
            why = self._why[name]
            log.warning("scheduler_object_left_out", path=self._path, name=name, error=why)


class Watch:
    """One kind of object, from a list and then from events; `run` returns when `stop` is set."""

    def __init__(
        self,
        api: Reads,
        what: Watched,
        changed: Changed,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self.what, self._changed, self._now = api, what, changed, now
        self._event = msgspec.json.Decoder(_Event)
        self._items = Items(what)
        self._listing = Listing(api, what, self._items)
        self.left_out = LeftOut(what.path)
        self.stop = threading.Event()
        self.failure, self.failures = "", 0
        self._current_at = None if what.optional else now()

    @property
    def age_s(self) -> float | None:
        """For how long nothing was heard; None for what a cluster may be without, and is."""
        at = self._current_at
        return None if at is None else max(0.0, self._now() - at)

    def run(self) -> None:
        """List, watch, and again, whatever fails: a watch that ended would be silent for ever."""
        while not self.stop.is_set():
            error = outcome_of(self._follow)
            if isinstance(error, Exception):
                self.failures += 1
                self._tell(error)
                self.stop.wait(LONG_PAUSE_S if self._is_absent(error) else PAUSE_S)

    def _follow(self) -> None:
        """Until it is stopped. Raises ApiError, and ValueError for what is no answer."""
        listed = self._listing.all()
        self.left_out.renew(listed.left_out)
        self._changed("SET", listed.found)
        self._heard()
        self._tell(None)
        version = listed.version
        while not self.stop.is_set():
            before, version = version, self._watch(version)
            self._heard()
            if version == before:  # a server that ends each watch at once
                self.stop.wait(PAUSE_S)

    def _is_absent(self, error: Exception) -> bool:
        return self.what.optional and isinstance(error, ApiError) and error.status in ABSENT

    def _heard(self) -> None:
        self._current_at = self._now()

    def _tell(self, error: Exception | None) -> None:
        """Once per change."""
        failure = "" if error is None else str(error) or type(error).__name__
        if failure and not self.failure:
            known = isinstance(error, (ApiError, ValueError))
            info = None if known else error
            log.warning("scheduler_watch_failed", path=self.what.path, error=failure, exc_info=info)
        elif self.failure and not failure:
            log.info("scheduler_watch_recovered", path=self.what.path)
        self.failure = failure

    def _watch(self, version: str) -> str:
        """Follow until the server ends it; the version to go on from. Raises ApiError."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}"
        for event in self._events(f"{self.what.path}?{query}&resourceVersion={version}"):
            if event.type == "ERROR":
                raise ApiError(f"{self.what.path}: the watch ended", GONE)
            self._heard()
            named = named_of(event.object)
            version = named.version or version
            if event.type in ("ADDED", "MODIFIED", "DELETED"):
                self._happened(event, str(named))
            if self.stop.is_set():
                break
        return version

    def _happened(self, event: _Event, name: str) -> None:
        """One that cannot be read stays what it was."""
        gone = event.type == "DELETED"
        try:
            found = self._items.one(event.object, gone=gone)
        except UnreadableError as error:
            self.left_out.put(error.name, str(error))
            return
        self.left_out.discard(name)
        self._changed("DELETED" if gone else "PUT", [found])

    def _events(self, path: str) -> Iterator[_Event]:
        for line in _whole(self._api.lines(path, QUIET_S)):
            if line is None:
                self.left_out.put("(an event)", f"more than {MAX_ANSWER_BYTES >> 20} MiB")
            else:
                yield self._event.decode(line)


def _whole(lines: Iterator[bytes]) -> Iterator[bytes | None]:
    """The lines; None for one that came in pieces, as it is too large."""
    pieces = False
    for line in lines:
        if not line.endswith(b"\n"):
            pieces = True  # or the connection ended within it
        elif pieces:
            pieces = False
            yield None
        else:
            yield line
