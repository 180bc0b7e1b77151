"""Lists and watches the API server's nodes and pods, on threads: HTTPS blocks here."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct

from deviceplugin.kubernetes.api import Api, ApiError

log = structlog.get_logger()

PAGE = 250  # objects; a page of nodes with many images is some MiB
WATCH_S = 300
QUIET_S = WATCH_S + 30.0  # the server ends a watch itself, unless the network is gone
PAUSE_S = 2.0
GONE = 410
Kind = Literal["SET", "PUT", "DELETED"]
# What happened: all that there is, or one object.
Changed = Callable[[Kind, Sequence[Any]], None]  # Any: nodes or pods


class _Event(Struct):
    type: str
    object: msgspec.Raw


class _Meta(Struct, rename="camel"):
    resource_version: str = ""


class _Version(Struct):
    metadata: _Meta


class Watch:
    """One kind of object, from a list and then from events; `run` returns when `stop` is set."""

    def __init__(self, api: Api, path: str, kind: type[Any], changed: Changed) -> None:
        self._api, self._path, self._changed = api, path, changed
        self._kind = kind  # Node or Pod
        self._event = msgspec.json.Decoder(_Event)
        self._many: Any = list[kind]  # type: ignore[valid-type]  # a type made here
        self._object: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._version = msgspec.json.Decoder(_Version)
        self.stop = threading.Event()
        self._failure = ""

    def run(self) -> None:
        """List, watch, and again."""
        while not self.stop.is_set():
            try:
                version = self._list()
                self._tell("")
                while not self.stop.is_set():
                    before, version = version, self._watch(version)
                    if version == before:  # a server that ends each watch at once
                        self.stop.wait(PAUSE_S)
            except (ApiError, msgspec.MsgspecError) as error:
                self._tell(str(error))
                self.stop.wait(PAUSE_S)

    def _tell(self, failure: str) -> None:
        """Once per change."""
        if failure and not self._failure:
            log.warning("scheduler_watch_failed", path=self._path, error=failure)
        elif self._failure and not failure:
            log.info("scheduler_watch_recovered", path=self._path)
        self._failure = failure

    def _list(self) -> str:
        found: list[Any] = []  # of our kind
        following, version = "", ""
        while True:
            page = self._api.request("GET", f"{self._path}?limit={PAGE}{following}")
            found += msgspec.convert(page.get("items") or [], self._many)
            meta = page.get("metadata") or {}
            version = str(meta.get("resourceVersion", ""))
            if not meta.get("continue"):
                self._changed("SET", found)
                return version
            following = f"&continue={meta['continue']}"

    def _watch(self, version: str) -> str:
        """Follow until the server ends it; the version to go on from. Raises ApiError."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}"
        for event in self._events(f"{self._path}?{query}&resourceVersion={version}"):
            if event.type == "ERROR":
                raise ApiError(f"{self._path}: the watch ended", GONE)
            version = self._version.decode(event.object).metadata.resource_version or version
            if event.type in ("ADDED", "MODIFIED", "DELETED"):
                kind: Kind = "DELETED" if event.type == "DELETED" else "PUT"
                self._changed(kind, [self._object.decode(event.object)])
            if self.stop.is_set():
                break
        return version

    def _events(self, path: str) -> Iterator[_Event]:
        for line in self._api.lines(path, QUIET_S):
            yield self._event.decode(line)
