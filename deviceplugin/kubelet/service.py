"""The kubelet as parts of the daemon: which one listens, and one endpoint for each resource."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from deviceplugin.kubelet.lifecycle import DEVICE_PLUGINS, Endpoint
from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.kubelet.plugin import Allocate, Prefer, PreferLarge, ResourcePlugin
from deviceplugin.kubelet.reconcile import Endpoints
from deviceplugin.kubelet.socket import KubeletSocket
from deviceplugin.kubelet.turns import Turns
from deviceplugin.model import Resource, ResourceName
from deviceplugin.resources.plan import Resources
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Part


class KubeletPart(Part[object]):
    """Watches which kubelet listens at `kubelet_dir`, and counts what goes on with it.

    `private` is a directory of ours for sockets that nobody else reaches.
    """

    def __init__(self, kubelet_dir: Path, private: Path | None = None) -> None:
        self.private = private
        self.socket = KubeletSocket(kubelet_dir / DEVICE_PLUGINS / "kubelet.sock")
        self.metrics = KubeletMetrics()

    def tasks(self) -> Mapping[str, Once]:
        """The watch and the count."""
        return {"kubelet_watch": self.socket.watch, "kubelet_count": self._count}

    def collectors(self) -> Mapping[str, Collector]:
        """Registrations, lists, allocations, restarts."""
        return {"kubelet": self.metrics}

    def problem(self) -> str:
        """Whether no kubelet is there."""
        if self.socket.listening.value is None:
            return f"no kubelet listens on {self.socket.path}"
        return ""

    async def _count(self) -> None:
        known = await self.socket.listening.until(lambda identity: identity is not None)
        while True:
            before = known
            known = await self.socket.listening.until(
                lambda identity, before=before: identity not in (None, before)  # type: ignore[misc]
            )
            self.metrics.kubelet_restarted()


class Answers(Struct, frozen=True):
    """What the kubelet is answered with, and the resources of which pods hold something."""

    allocate: Allocate
    prefer: Prefer
    prefer_large: PreferLarge
    held: Callable[[], Collection[ResourceName]]


class EndpointsPart(Part[object]):
    """Serves each of `resources` to the kubelet; made after `kubelet` and ended before it."""

    def __init__(
        self,
        kubelet: KubeletPart,
        resources: Latest[Resources],
        answers: Answers,
        keeper: Keeper,
        seed: int,
    ) -> None:
        self._kubelet, self._resources, self._seed = kubelet, resources, seed
        self._answers, self._turns = answers, Turns(answers.held)
        self._following, self._keeper = keeper.another(), keeper.another()
        self._endpoints = Endpoints(self._make, self._run)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The endpoints; at the end their streams end first, however long the kubelet takes."""
        self._following.start("endpoints", self._follow)
        try:
            yield
        finally:
            await self._following.end(None)

    def problem(self) -> str:
        """Whether the kubelet does not watch all resources."""
        unregistered = list(self._endpoints.problems())
        return f"not watched by the kubelet: {', '.join(unregistered)}" if unregistered else ""

    async def _follow(self) -> None:
        await self._endpoints.follow(self._resources)

    def _make(self, resource: Resource) -> Endpoint:
        metrics = self._kubelet.metrics
        answers = self._answers
        plugin = ResourcePlugin(
            resource, answers.allocate, answers.prefer, metrics, answers.prefer_large
        )
        endpoint = Endpoint(plugin, self._kubelet.socket, metrics, self._seed, self._turns)
        endpoint.private = self._kubelet.private
        return endpoint

    def _run(self, endpoint: Endpoint) -> "asyncio.Task[None]":
        return self._keeper.start(endpoint.plugin.name, endpoint.run)
