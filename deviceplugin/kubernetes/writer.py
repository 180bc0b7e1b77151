"""Writes to the API server: few, tried again a few times, and never in the way of the devices."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from deviceplugin.kubernetes import story
from deviceplugin.kubernetes.api import JSON, MERGE, STRATEGIC, Api, ApiError
from deviceplugin.kubernetes.story import Cause, Document, Pod

log = structlog.get_logger()

RETRY_S = (1.0, 4.0, 15.0)  # waits between the tries of one write
BURST = 30  # Events at once; then one more every REFILL_S
REFILL_S = 6.0
HTTP_CONFLICT, HTTP_NOT_FOUND = 409, 404


class Bucket:
    """How many Events may be written: `now` gives seconds that only grow."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.left: float = BURST
        self.at = now()

    def take(self) -> bool:
        """Whether one more may be written."""
        now = self.now()
        self.left = min(BURST, self.left + (now - self.at) / REFILL_S)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Writer:
    """The writes of one node; each failure is logged once until it is another one.

    A write answers whether it is over with: done, or refused in a way that no repetition changes.
    """

    def __init__(self, api: Api, node: str, retry_s: tuple[float, ...] = RETRY_S) -> None:
        self._api, self._node, self._retry_s = api, node, retry_s
        self._bucket = Bucket(asyncio.get_running_loop().time)
        self._failed: dict[str, str] = {}

    async def event(self, about: Pod | None, cause: Cause, *, well: bool, now: float) -> bool:
        """Write an Event, or count it up where there is one like it."""
        if not self._bucket.take():
            self._note("events", "many Events at once: the others follow one by one")
            return False
        body = story.event(self._node, about, cause, well=well, now=now)
        return await self._try("event", lambda: self._put_event(about, body))

    def _put_event(self, about: Pod | None, body: Document) -> None:
        if about:
            uid = self._uid(about)
            if uid is None:
                return  # the pod has ended
            body["involvedObject"]["uid"] = uid
        path = f"/api/v1/namespaces/{body['metadata']['namespace']}/events"
        try:
            self._api.request("POST", path, body)
        except ApiError as error:
            if error.status != HTTP_CONFLICT:
                raise
            self._count_up(f"{path}/{body['metadata']['name']}", body)

    def _uid(self, pod: Pod) -> str | None:
        try:
            found = self._api.request("GET", f"/api/v1/namespaces/{pod[0]}/pods/{pod[1]}")
        except ApiError as error:
            if error.status == HTTP_NOT_FOUND:
                return None
            raise
        return str(found.get("metadata", {}).get("uid", ""))

    def _count_up(self, path: str, body: Document) -> None:
        count = int(self._api.request("GET", path).get("count") or 1) + 1
        again = {name: body[name] for name in ("message", "lastTimestamp")}
        self._api.request("PATCH", path, {**again, "count": count}, MERGE)

    async def condition(self, condition: Document | None) -> bool:
        """Set the node's condition, None takes it away."""
        gone = {"type": story.CONDITION, "$patch": "delete"}
        body = {"status": {"conditions": [condition or gone]}}
        path = f"/api/v1/nodes/{self._node}/status"
        return await self._try("condition", lambda: self._send(path, body, STRATEGIC))

    def _send(self, path: str, body: Document, kind: str = JSON) -> None:
        self._api.request("PATCH", path, body, kind)

    async def taint(self, *, wanted: bool) -> bool:
        """Add or take away the node's taint."""
        return await self._try("taint", lambda: self._put_taint(wanted=wanted))

    def _put_taint(self, *, wanted: bool) -> None:
        """The list is replaced whole, and only if nobody has changed the node meanwhile."""
        path = f"/api/v1/nodes/{self._node}"
        node: Mapping[str, Any] = self._api.request("GET", path)
        before = node.get("spec", {}).get("taints") or []
        after = story.with_taint(before, wanted=wanted)
        if after != before:
            version = {"resourceVersion": node["metadata"]["resourceVersion"]}
            self._send(path, {"metadata": version, "spec": {"taints": after}}, MERGE)

    async def _try(self, kind: str, write: Callable[[], None]) -> bool:
        for wait_s in (0.0, *self._retry_s):
            await asyncio.sleep(wait_s)
            try:
                await asyncio.to_thread(write)
            except ApiError as error:
                self._note(kind, str(error))
                if not error.may_pass:
                    return True
            else:
                self._failed.pop(kind, None)
                return True
        return False

    def _note(self, kind: str, reason: str) -> None:
        if self._failed.get(kind) != reason:
            log.warning("kubernetes_not_written", kind=kind, reason=reason)
        self._failed[kind] = reason
