"""Lists and watches the API server's nodes and pods, on threads: HTTPS blocks here."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from deviceplugin.kubernetes.api import Api, ApiError
from deviceplugin.scheduler import claims, published
from deviceplugin.scheduler.dynamic import Change

log = structlog.get_logger()

RESOURCES = "/apis/resource.k8s.io/v1"
SLICES = 50  # of a page: one may have 128 devices, and an answer 8 MiB
PAGE = 250  # objects; a page of nodes with many images is some MiB
WATCH_S = 300
QUIET_S = WATCH_S + 30.0  # the server ends a watch itself, unless the network is gone
PAUSE_S, LONG_PAUSE_S = 2.0, 60.0
GONE = 410
Kind = Change
# What happened: all that there is, or one object.
Changed = Callable[[Kind, Sequence[Any]], None]  # Any: objects of the kind that is watched


class Watched(Struct, frozen=True, kw_only=True):
    """A kind of object: where it is listed, as what it is decoded, what is kept of it, how many
    make a page, and whether a cluster may be without it."""

    path: str
    kind: type[Any]
    small: Callable[[Any], Any] = lambda one: one
    page: int = PAGE
    optional: bool = False

    @property
    def pause_s(self) -> float:
        """How long a failure is waited for."""
        return LONG_PAUSE_S if self.optional else PAUSE_S


class _Event(Struct):
    type: str
    object: msgspec.Raw


class _Meta(Struct, rename="camel"):
    resource_version: str = ""


class _Version(Struct):
    metadata: _Meta


def dra_kinds(drivers: frozenset[str]) -> Sequence[Watched]:
    """Slices, claims and classes; a cluster may be without them."""
    small = partial(claims.small, drivers=drivers)
    slices = Watched(
        path=f"{RESOURCES}/resourceslices",
        kind=published.ResourceSlice,
        small=published.Keeping(drivers).small,
        page=SLICES,
        optional=True,
    )
    return (
        slices,
        Watched(
            path=f"{RESOURCES}/resourceclaims",
            kind=claims.ResourceClaim,
            small=small,
            optional=True,
        ),
        Watched(path=f"{RESOURCES}/deviceclasses", kind=claims.DeviceClass, optional=True),
    )


class Watch:
    """One kind of object, from a list and then from events; `run` returns when `stop` is set."""

    def __init__(self, api: Api, what: Watched, changed: Changed) -> None:
        self._api, self._what, self._changed = api, what, changed
        self._event = msgspec.json.Decoder(_Event)
        self._many: Any = list[what.kind]  # type: ignore[name-defined]  # a type made here
        self._object: msgspec.json.Decoder[Any] = msgspec.json.Decoder(what.kind)
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
                self.stop.wait(PAUSE_S if _is_gone(error) else self._what.pause_s)

    def _tell(self, failure: str) -> None:
        """Once per change."""
        if failure and not self._failure:
            log.warning("scheduler_watch_failed", path=self._what.path, error=failure)
        elif self._failure and not failure:
            log.info("scheduler_watch_recovered", path=self._what.path)
        self._failure = failure

    def _list(self) -> str:
        found: list[Any] = []  # of our kind
        following, version = "", ""
        while True:
            page = self._api.request("GET", f"{self._what.path}?limit={self._what.page}{following}")
            found += map(self._what.small, msgspec.convert(page.get("items") or [], self._many))
            meta = page.get("metadata") or {}
            version = str(meta.get("resourceVersion", ""))
            if not meta.get("continue"):
                self._changed("SET", found)
                return version
            following = f"&continue={meta['continue']}"

    def _watch(self, version: str) -> str:
        """Follow until the server ends it; the version to go on from. Raises ApiError."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}"
        for event in self._events(f"{self._what.path}?{query}&resourceVersion={version}"):
            if event.type == "ERROR":
                raise ApiError(f"{self._what.path}: the watch ended", GONE)
            version = self._version.decode(event.object).metadata.resource_version or version
            if event.type in ("ADDED", "MODIFIED", "DELETED"):
                kind: Kind = "DELETED" if event.type == "DELETED" else "PUT"
                self._changed(kind, [self._what.small(self._object.decode(event.object))])
            if self.stop.is_set():
                break
        return version

    def _events(self, path: str) -> Iterator[_Event]:
        for line in self._api.lines(path, QUIET_S):
            yield self._event.decode(line)


def _is_gone(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.status == GONE
