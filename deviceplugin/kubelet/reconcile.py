"""Desired resources against running endpoints: starts, updates and ends them one by one."""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.kubelet.lifecycle import Endpoint
from deviceplugin.kubelet.plugin import BURST_S, ResourcePlugin
from deviceplugin.model import Resource, ResourceName
from deviceplugin.resources.plan import Resources
from deviceplugin.runtime.latest import Latest

log = structlog.get_logger()


class Running(Struct, frozen=True):
    """An endpoint and the task that runs it."""

    endpoint: Endpoint
    task: "asyncio.Task[None]"


class Endpoints:
    """One endpoint per resource; `make` builds one, `run` keeps it going."""

    def __init__(
        self,
        make: Callable[[Resource], Endpoint],
        run: Callable[[Endpoint], "asyncio.Task[None]"],
    ) -> None:
        self._make, self._run = make, run
        self._wanted: Resources = {}
        self._running: dict[ResourceName, Running] = {}
        self._ending: dict[ResourceName, asyncio.Task[None]] = {}

    async def follow(self, resources: Latest[Resources]) -> None:
        """Bring the endpoints in line with each newest set of resources; until cancelled."""
        try:
            async for wanted in resources.changes():
                self._reconcile(wanted)
        finally:
            await self._stop_all()

    def problems(self) -> Iterable[str]:
        """The resources that the kubelet does not watch now, with the reason where it is ours."""
        return [self._named(name) for name in sorted(self._wanted) if not self._is_ready(name)]

    def _named(self, name: ResourceName) -> str:
        running = self._running.get(name)
        reason = running.endpoint.problem if running else ""
        return f"{name} ({reason})" if reason else name

    def _is_ready(self, name: ResourceName) -> bool:
        running = self._running.get(name)
        return running is not None and running.endpoint.ready

    def _reconcile(self, wanted: Resources) -> None:
        self._wanted = wanted
        for name, resource in wanted.items():
            if running := self._running.get(name):
                running.endpoint.plugin.show(resource)
            elif name not in self._ending:  # the socket is still the old one's; see _retire
                self._start(resource)
        for name in [name for name in self._running if name not in wanted]:
            self._ending[name] = asyncio.create_task(self._retire(name, self._running.pop(name)))

    def _start(self, resource: Resource) -> None:
        endpoint = self._make(resource)
        self._running[resource.name] = Running(endpoint, self._run(endpoint))
        log.info("resource_added", resource=resource.name, devices=len(resource.devices))

    async def _retire(self, name: ResourceName, running: Running) -> None:
        """Say with an empty list that there is nothing left, then end: without the list the
        kubelet would keep the old capacity for five minutes. The resource may be wanted again."""
        plugin: ResourcePlugin = running.endpoint.plugin
        plugin.show(replace(plugin.resource, devices=()))
        await asyncio.sleep(2 * BURST_S)
        await _cancel(running.task)
        log.info("resource_removed", resource=name)
        del self._ending[name]
        self._reconcile(self._wanted)

    async def _stop_all(self) -> None:
        tasks = [*(running.task for running in self._running.values()), *self._ending.values()]
        self._running, self._ending = {}, {}
        await asyncio.gather(*map(_cancel, tasks))


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
