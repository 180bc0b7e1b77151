"""Watches the slices of the node, so that what others do to them is put right at once; blocks."""

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from msgspec import Struct

from deviceplugin.dra.publisher import SLICES, Requests
from deviceplugin.kubernetes.api import ApiError

log = structlog.get_logger()

WATCH_S = 300
QUIET_S = WATCH_S + 30.0  # the server ends a watch itself, unless the network is gone
RETRY_S, RETRY_MAX_S = 1.0, 30.0
GONE = 410
AGAIN_S = 0.1  # before a new list where the old one is forgotten
# A driver whose slice is another one now, and the version of the slice; empty for any.
Changed = Callable[[str, str], None]


class _Event(Struct):
    type: str
    object: dict[str, Any] = {}


class SliceWatch:
    """From a list and then from events; `run` returns when `stop` is set and the watch has ended.

    Bookmarks keep the version young; one that is too old all the same (410) is a new list at once.
    """

    def __init__(self, api: Requests, node: str, changed: Changed) -> None:
        self._api, self._changed = api, changed
        self._path = f"{SLICES}?fieldSelector={quote(f'spec.nodeName={node}')}"
        self._decoder = msgspec.json.Decoder(_Event)
        self.stop = threading.Event()
        self._failure = ""

    def run(self) -> None:
        """List, watch, and again; failures wait longer each time."""
        wait_s = RETRY_S
        while not self.stop.is_set():
            try:
                version = self._list()
                self._tell("")
                while not self.stop.is_set():
                    version = self._watch(version)
                    wait_s = RETRY_S
            except (ApiError, msgspec.MsgspecError) as error:
                if isinstance(error, ApiError) and error.status == GONE:
                    self.stop.wait(AGAIN_S)
                    continue
                self._tell(str(error))
                self.stop.wait(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)

    def _list(self) -> str:
        found = self._api.request("GET", self._path)
        self._changed("", "")
        return str((found.get("metadata") or {}).get("resourceVersion", ""))

    def _watch(self, version: str) -> str:
        """Follow until the server ends it; the version to go on from. Raises ApiError."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}"
        before = version
        for line in self._api.lines(f"{self._path}&{query}&resourceVersion={version}", QUIET_S):
            event = self._decoder.decode(line)
            if event.type == "ERROR":
                status = event.object.get("code")
                raise ApiError("the watch of slices ended", status if status == GONE else 0)
            version = str(event.object.get("metadata", {}).get("resourceVersion", version))
            if event.type != "BOOKMARK":
                self._changed(str(event.object.get("spec", {}).get("driver", "")), version)
            if self.stop.is_set():
                break
        if version == before:  # a server that ends each watch at once
            self.stop.wait(RETRY_S)
        return version

    def _tell(self, failure: str) -> None:
        """Once per change."""
        if failure and not self._failure:
            log.warning("dra_watch_failed", reason=failure)
        elif self._failure and not failure:
            log.info("dra_watch_recovered")
        self._failure = failure
