"""Events on pods: why this node, or why none; written on a thread, each reason once."""

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from deviceplugin.kubernetes.api import Api, ApiError
from deviceplugin.names import one_line
from deviceplugin.scheduler.objects import Pod

log = structlog.get_logger()

MAX_WAITING = 200  # beyond it Events are left out: they are for people, and the next one comes
MAX_TOLD = 5000
CHOSEN, REFUSED = "GpuNodeChosen", "GpuNodeNotFound"
MAX_MESSAGE = 1000
Document = Mapping[str, Any]


class Notes:
    """Writes Events until `stop`; `now` gives Unix seconds."""

    def __init__(self, api: Api, now: Callable[[], float] = time.time) -> None:
        self._api, self._now = api, now
        self._waiting: queue.Queue[tuple[str, Document] | None] = queue.Queue(MAX_WAITING)
        self._told: dict[str, str] = {}
        self._failure = ""
        self.written = self.left_out = 0

    def decided(self, pod: Pod, why: Document) -> None:
        """Tell of a decision, if it asks for GPUs and was not told already."""
        demand = why["demand"]
        asks = demand["gpus"] or demand["partitions"] or demand["claims"]
        if why["best"] and not asks:
            return
        message = message_of(why)
        key = pod.key
        if self._told.pop(key, "") == message:
            self._told[key] = message
            return
        self._told[key] = message
        if len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]
        try:
            self._waiting.put_nowait(
                (pod.metadata.namespace, event_of(pod, why, message, self._now()))
            )
        except queue.Full:
            self.left_out += 1

    def run(self) -> None:
        """Write what is told, one after the other, until `stop`."""
        while (one := self._waiting.get()) is not None:
            namespace, body = one
            try:
                self._api.request("POST", f"/api/v1/namespaces/{namespace}/events", dict(body))
            except ApiError as error:
                self.left_out += 1
                if self._failure != str(error.status):
                    log.warning("scheduler_event_failed", error=str(error))
                self._failure = str(error.status)
            else:
                self._failure = ""
                self.written += 1

    def stop(self) -> None:
        """End `run` after what is being written."""
        while True:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                self._waiting.get_nowait()
            else:
                return


def message_of(why: Document) -> str:
    """The decision in a line."""
    if why["best"]:
        best, *others = why["best"]
        text = f"{best['node']} is the best of {why['fitting']} nodes (judged by {best['by']})"
        if others:
            text += f"; the next is {others[0]['node']}: {why['lacking']}"
    else:
        reasons = [f"{one['nodes']} × {one['reason']}" for one in why["failed"]]
        text = f"no node has room: {'; '.join(reasons) or 'there is none'}"
    return one_line(text)[:MAX_MESSAGE]


def event_of(pod: Pod, why: Document, message: str, now: float) -> Document:
    """The Event as the API server takes it."""
    chosen = bool(why["best"])
    meta, stamp = pod.metadata, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    return {
        "metadata": {
            "name": f"{meta.name[:200]}.{int(now * 1e6):x}",
            "namespace": meta.namespace,
        },
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        },
        "reason": CHOSEN if chosen else REFUSED,
        "message": message,
        "type": "Normal" if chosen else "Warning",
        "source": {"component": "deviceplugin-scheduler"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
