"""Collects runs from the nodes' own daemons; lives on the loop.

Each daemon has so long and so many bytes, and a few are asked at a time, so that a node that is
gone or hangs costs nothing but itself.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from msgspec import Struct, structs

from deviceplugin.errors import ConfigError
from deviceplugin.files.text import one_line
from deviceplugin.learning.nodes import NodeRunsError, decode
from deviceplugin.learning.runs import Run
from deviceplugin.metrics.store import Access
from deviceplugin.runtime.trust import trusting
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.page import PageError, Server, get

log = structlog.get_logger()

PORT = 9440
PATH = "/runs"
ASK_S = 5.0  # a daemon, for all of its answer
AT_ONCE = 16
ALL_S = 600.0  # 1,900 nodes none of which answers
FORM = "a URL such as http://deviceplugin.kube-system:9440, of the daemons' name and namespace"
# What came of asking a daemon: it gave its runs, keeps none, may not give them, or did not answer.
OUTCOMES = ("given", "off", "refused", "failed")
_HOST = re.compile(r"(?![0-9.]+$)([a-z0-9-]+)\.([a-z0-9-]+)(\.[a-z0-9.-]+)?$")
OK = 200
_BY_STATUS = {404: "off", 401: "refused", 403: "refused", 421: "refused"}
_SHOWN = 300


class Place(Struct, frozen=True, order=True):
    """A daemon: its node, and the address of its pod."""

    node: str
    address: str


class Daemons(Struct, frozen=True):
    """Which pods are daemons, by name (label `app.kubernetes.io/name`, else `app`) and
    namespace."""

    name: str
    namespace: str

    def places(self, pods: Iterable[Pod]) -> Sequence[Place]:
        """Where those of the pods that are daemons are asked; one of a node."""
        found = {
            pod.spec.node_name: Place(pod.spec.node_name, pod.status.pod_ip)
            for pod in pods
            if pod.metadata.namespace == self.namespace
            and pod.app == self.name
            and pod.holds
            and pod.status.pod_ip
        }
        return sorted(found.values())


def daemons_of(access: Access) -> Daemons:
    """Those that an address names, as NAME.NAMESPACE; raises ConfigError."""
    parts = access.parts()
    found = _HOST.match(parts.hostname or "")
    if not found or parts.path.strip("/") or parts.query:
        raise ConfigError(access.flag, access.address, FORM)
    return Daemons(found[1], found[2])


class Answer(Struct, frozen=True):
    """What came of asking a daemon, and why it gave nothing."""

    outcome: str
    runs: Sequence[Run] = ()
    reason: str = ""


class Histories:
    """Asks the daemons of `places`, as `access` says; the time-out is one of each daemon."""

    def __init__(self, access: Access, places: Callable[[], Sequence[Place]]) -> None:
        self._access, self._places = access, places
        self.outcomes: Mapping[str, int] = {}  # of the last time; empty before the first
        self.runs = 0
        self._missing = False

    async def collect(self) -> Mapping[str, Sequence[Run]]:
        """The runs of each node that gave any."""
        places = self._places()
        answers = await self._answers(places)
        found = {p.node: a.runs for p, a in zip(places, answers, strict=True) if a.runs}
        outcomes = Counter(answer.outcome for answer in answers)
        self.outcomes = {outcome: outcomes[outcome] for outcome in OUTCOMES}
        self.runs = sum(map(len, found.values()))
        reason = next((answer.reason for answer in answers if answer.reason), "")
        self._tell(reason if places else "no pod is called so")
        return found

    async def _answers(self, places: Sequence[Place]) -> Sequence[Answer]:
        try:
            server = await asyncio.to_thread(self._server)
        except (OSError, ValueError) as error:  # a file of a token or of authorities
            return [Answer("failed", reason=one_line(str(error)))] * len(places)
        few, late = asyncio.Semaphore(AT_ONCE), Answer("failed", reason="there was no time left")

        async def ask(place: Place) -> Answer:
            async with few:
                return await _asked(place, server)

        tasks = [asyncio.ensure_future(ask(place)) for place in places]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=ALL_S)
            return [task.result() if task.done() else late for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    def _server(self) -> Server:
        """Raises OSError and ValueError."""
        access, parts, headers = self._access, self._access.parts(), {}
        if access.token_file is not None:
            headers["Authorization"] = f"Bearer {access.token_file.read_text().strip()}"
        cafile = str(access.ca_file) if access.ca_file else None
        return Server(
            address=("", parts.port or PORT),
            name=parts.hostname or "",
            tls=trusting(cafile=cafile) if parts.scheme == "https" else None,
            headers=headers,
            within_s=access.timeout_s,
        )

    def _tell(self, reason: str) -> None:
        """Once per change: that no node gave any, and that one did again."""
        missing = not self.runs
        fields = {"address": self._access.address, **self.outcomes}
        if missing and not self._missing:
            log.warning("scheduler_histories_missing", reason=reason, **fields)
        elif self._missing and not missing:
            log.info("scheduler_histories_given", runs=self.runs, **fields)
        self._missing = missing


async def _asked(place: Place, server: Server) -> Answer:
    """What is wrong with one costs this one alone."""
    address = (place.address, server.address[1])
    try:
        status, body = await get(structs.replace(server, address=address), PATH)
        if status == OK:
            _, runs = await asyncio.to_thread(decode, body)
            return Answer("given", runs)
    except (PageError, NodeRunsError) as error:
        return Answer("failed", reason=one_line(f"{place.node}: {error}"))
    text = body[:_SHOWN].decode(errors="replace")
    outcome = _BY_STATUS.get(status, "failed")
    return Answer(outcome, reason=one_line(f"{place.node}: {status} {text}"))
