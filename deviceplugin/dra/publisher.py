"""Keeps a driver's ResourceSlices as they are planned, whatever becomes of them meanwhile."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import quote

import structlog

from deviceplugin.dra.claims import ClaimError, ClaimRef
from deviceplugin.dra.gates import GATE_OF
from deviceplugin.dra.pools import Document, Owner, comparable, lost_fields, writes_of
from deviceplugin.dra.slices import SlicePlan
from deviceplugin.errors import DevicePluginError
from deviceplugin.kubernetes.api import ApiError

log = structlog.get_logger()

API = "/apis/resource.k8s.io/v1"
SLICES = f"{API}/resourceslices"
RESYNC_S = 30.0  # a slice that a person has deleted is back within that time
RETRY_S, RETRY_MAX_S = 1.0, 30.0
SETTLE_S = 0.05  # what changes together is written together
# A kubelet that starts registers us and wipes the node's slices, in either order.
WIPED_S, LOOK_S = 6.0, 1.0
HTTP_NOT_FOUND = 404


class Requests(Protocol):
    """The API server as `kubernetes.api.Api` reaches it; blocks, raises ApiError."""

    def request(
        self, method: str, path: str, body: Document | None = None, kind: str = ...
    ) -> Document:
        """The answer's document."""

    def lines(self, path: str, quiet_s: float) -> Iterator[bytes]:
        """The lines of a watch."""


class Publisher:
    """Writes the slices of a driver; `plan` gives them for a minor release of the API server and
    the gates that it has shown to lack.

    Woken on the loop; what talks to the server runs on a thread.
    """

    def __init__(
        self,
        driver: str,
        node: str,
        plan: Callable[[int, frozenset[str]], SlicePlan],
        api: Requests,
    ) -> None:
        self._driver, self._node, self._plan, self._api = driver, node, plan, api
        self._minor, self._lacking = 0, frozenset[str]()
        self._wanted = asyncio.Event()
        self._wiped_s = 0.0
        self._accepted: dict[int, tuple[Document, Document]] = {}
        self._told: set[str] = set()
        self._written: deque[str] = deque(maxlen=256)
        self.problem = f"the slices of driver {driver} are not published yet"

    def wake(self) -> None:
        """What is planned may have changed."""
        self._wanted.set()

    def changed(self, version: str) -> None:
        """A slice is of that version now; our own writes are no news."""
        if version not in self._written:
            self._wanted.set()

    def registered(self) -> None:
        """A kubelet has taken the driver: it may have started now, and wipe the slices."""
        self._wiped_s = time.monotonic() + WIPED_S
        self._wanted.set()

    async def run(self) -> None:
        """Publish for ever."""
        wait_s = RETRY_S
        while True:
            self._wanted.clear()
            if await self._publish():
                wait_s = RETRY_S
                await self._pause(LOOK_S if time.monotonic() < self._wiped_s else RESYNC_S)
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)

    async def _pause(self, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._wanted.wait()
        await asyncio.sleep(SETTLE_S)

    async def _publish(self) -> bool:
        """Whether the slices are as planned; the plan is made on the loop, of its newest state."""
        try:
            await asyncio.to_thread(self._read_minor)
            while not await asyncio.to_thread(self.write, self._planned()):
                pass  # each time one gate more is known to be off
        except DevicePluginError as error:
            self.problem = f"the slices of driver {self._driver} are not published: {error}"
            self._tell("dra_not_published", str(error))
            return False
        self.problem = ""
        return True

    def bring_up_to_date(self) -> None:
        """As the loop does once, in one go: blocks; raises ApiError."""
        self._read_minor()
        while not self.write(self._planned()):
            pass

    def _planned(self) -> SlicePlan:
        plan = self._plan(self._minor, self._lacking)
        for text in plan.dropped:
            self._tell("dra_not_published_in_part", text)
        return plan

    def write(self, plan: SlicePlan) -> bool:
        """Bring the server up to date: blocks; raises ApiError, also for a conflict, after which
        everything is read again.

        False where the server dropped fields because a gate is off: then nothing more of this plan
        is written, since devices would be published without what keeps them from being given
        twice, and it is to be planned again without that gate.
        """
        uid = self._api.request("GET", f"/api/v1/nodes/{quote(self._node)}")["metadata"]["uid"]
        selector = quote(f"spec.nodeName={self._node},spec.driver={self._driver}")
        found = self._api.request("GET", f"{SLICES}?fieldSelector={selector}")
        stored = found.get("items") or []
        writes = writes_of(stored, plan.specs, Owner(self._node, uid), self._accepted)
        for one in writes.delete:
            self._delete(one)
        for index, body in writes.update:
            path = f"{SLICES}/{quote(body['metadata']['name'])}"
            if not self._is_kept(index, body, self._api.request("PUT", path, body)):
                return False
        for index, body in writes.create:
            if not self._is_kept(index, body, self._api.request("POST", SLICES, body)):
                return False
        if writes.count:
            slices = len(plan.specs)
            log.info("dra_published", driver=self._driver, slices=slices, writes=writes.count)
        return True

    def _delete(self, one: Document) -> None:
        """Only the very object that was read; one that is gone is as it should be."""
        metadata = one["metadata"]
        conditions = {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        try:
            self._api.request("DELETE", f"{SLICES}/{quote(metadata['name'])}", body)
        except ApiError as error:
            if error.status != HTTP_NOT_FOUND:
                raise

    def _is_kept(self, index: int, asked: Document, kept: Document) -> bool:
        """What the server dropped it would drop again each time: it is said once."""
        wanted, found = comparable(asked["spec"]), comparable(kept.get("spec") or {})
        self._accepted[index] = (wanted, found)
        self._written.append(str(kept["metadata"].get("resourceVersion", "")))
        gates: set[str] = set()
        for name in lost_fields(wanted, found):
            gate = GATE_OF.get(name)
            text = f"the cluster needs {gate or 'one of its feature gates'} for it"
            self._tell("dra_field_dropped", f"{name}: {text}")
            gates |= {gate} if gate else set()
        new = gates - self._lacking
        self._lacking |= new
        return not new

    def _read_minor(self) -> None:
        """The server's minor release, each time: it may have been upgraded."""
        text = str(self._api.request("GET", "/version").get("minor", ""))
        digits = "".join(c for c in text if c.isascii() and c.isdigit())
        if not digits:
            raise ApiError(f"/version: {text[:20]!r} is not a minor release")
        if int(digits) != self._minor:
            self._minor, self._lacking = int(digits), frozenset()

    def _tell(self, event: str, reason: str) -> None:
        """Each once: it may come again with every try."""
        if reason not in self._told:
            if len(self._told) > 1000:  # texts of others, without end
                self._told.clear()
            self._told.add(reason)
            log.warning(event, driver=self._driver, reason=reason)


async def read_claim(api: Requests, ref: ClaimRef) -> Document | None:
    """The claim's object, None where there is none of its name; raises ClaimError."""
    path = f"{API}/namespaces/{quote(ref.namespace, '')}/resourceclaims/{quote(ref.name, '')}"
    try:
        return await asyncio.to_thread(_get, api, path)
    except ApiError as error:
        if error.status == HTTP_NOT_FOUND:
            return None
        raise ClaimError(f"claim {ref.text}: {error}") from error


def _get(api: Requests, path: str) -> dict[str, Any]:
    return api.request("GET", path)
