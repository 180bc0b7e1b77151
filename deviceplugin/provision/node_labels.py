"""The labels of the node by which others have GPUs partitioned: read, and answered with a state."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import structlog
from msgspec import Struct

from deviceplugin.kubernetes.api import MERGE, ApiError
from deviceplugin.provision.standing import Standing

log = structlog.get_logger()

READ_S = 10.0


class Labels(Struct, frozen=True, kw_only=True):
    """The labels of one vendor: which entry is wanted, how it stands, and the words for that."""

    wish: str
    state: str
    pending: str | None
    done: str = "success"
    failed: str = "failed"


LABELS: Mapping[str, Labels] = MappingProxyType(
    {
        "nvidia": Labels(
            wish="nvidia.com/mig.config", state="nvidia.com/mig.config.state", pending="pending"
        ),
        "amd": Labels(
            wish="dcm.amd.com/gpu-config-profile",
            state="dcm.amd.com/gpu-config-profile-state",
            pending=None,  # AMD's has no such word: the label is taken away until it is known
            failed="failure",
        ),
    }
)


class Requests(Protocol):
    """The API server."""

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = ""
    ) -> dict[str, Any]:
        """The answer's document; raises ApiError."""


class NodeLabels:
    """Of this node; used on the loop, asked on a thread."""

    def __init__(self, api: Requests, node: str, monotonic: Callable[[], float]) -> None:
        self._api, self._path, self._monotonic = api, f"/api/v1/nodes/{node}", monotonic
        self._labels: Mapping[str, str] = {}
        self._read_at: float | None = None
        self.problem = ""

    async def wish(self, vendor: str) -> str | None:
        """The entry that the node's label names; what it was where it cannot be read."""
        now = self._monotonic()
        if self._read_at is None or now >= self._read_at + READ_S:
            self._read_at = now
            await self._read()
        return self._labels.get(LABELS[vendor].wish)

    async def answer(self, vendor: str, standings: Sequence[Standing]) -> None:
        """Write how the GPUs of the vendor stand, where a label asked for it."""
        labels = LABELS[vendor]
        if labels.wish not in self._labels:
            return
        state = _state(labels, standings)
        if self._labels.get(labels.state) == state:
            return
        body = {"metadata": {"labels": {labels.state: state}}}
        try:
            await asyncio.to_thread(self._api.request, "PATCH", self._path, body, MERGE)
        except ApiError as error:
            self._tell(str(error))
            return
        kept = {key: value for key, value in self._labels.items() if key != labels.state}
        self._labels = kept | ({labels.state: state} if state is not None else {})

    async def _read(self) -> None:
        try:
            node = await asyncio.to_thread(self._api.request, "GET", self._path)
        except ApiError as error:
            self._tell(str(error))
            return
        found = node.get("metadata", {}).get("labels") or {}
        self._labels = {str(key): str(value) for key, value in found.items()}
        self.problem = ""

    def _tell(self, text: str) -> None:
        if text != self.problem:
            log.warning("partition_labels_failed", reason=text)
        self.problem = text


def _state(labels: Labels, standings: Sequence[Standing]) -> str | None:
    states = {row.state for row in standings}
    if states & {"failed", "refused"} or not states:
        return labels.failed
    return labels.pending if states & {"change", "pending"} else labels.done
