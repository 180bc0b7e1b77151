"""The wiring: which task feeds which, and in what order they start and end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import structlog

from deviceplugin.answers import Answers
from deviceplugin.claims import Claims
from deviceplugin.config import Config
from deviceplugin.core.allocation import devices_of
from deviceplugin.core.sharing import narrow
from deviceplugin.errors import DevicePluginError
from deviceplugin.health_wiring import HealthWiring
from deviceplugin.host import Host
from deviceplugin.host.uevents import Uevent, watch_uevents
from deviceplugin.kubelet.lifecycle import DEVICE_PLUGINS, Endpoint
from deviceplugin.kubelet.plugin import ResourcePlugin
from deviceplugin.kubelet.reconcile import Endpoints
from deviceplugin.kubelet.socketwatch import KubeletSocket
from deviceplugin.lock import only_daemon
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Preference,
    Resource,
)
from deviceplugin.outputs.cdi_files import CdiFiles
from deviceplugin.outputs.metrics import Metrics, StateCollector
from deviceplugin.outputs.metrics_server import App, application, loop_alive, serve_http
from deviceplugin.outputs.sharing_metrics import SharingCollector
from deviceplugin.placement import Placement, Sources, settings_of
from deviceplugin.supervise import keep
from deviceplugin.vendor import Vendor
from deviceplugin.vendor_loop import Around

log = structlog.get_logger()

STOP_S = 1.5  # children end in it
RETRY_S = 5.0


class Daemon:
    """Serves the devices of `vendors` to the kubelet until cancelled; made on the loop.

    `now` gives Unix seconds, `seed` the jitter of retries. What two vendors claim is the earlier
    one's.
    """

    def __init__(
        self, config: Config, vendors: Sequence[Vendor], now: Callable[[], float], seed: int
    ) -> None:
        self._config, self._seed = config, seed
        self._host = Host(config.host_root)
        self._vendors = {vendor.name: vendor for vendor in vendors}
        self._answers = Answers(self._host, self._vendors)
        self._metrics = Metrics()
        self._health = HealthWiring(config, self._host, now)
        self._store = self._health.store
        self._leading = False
        self._kubelet = KubeletSocket(config.kubelet_dir / DEVICE_PLUGINS / "kubelet.sock")
        self._endpoints = Endpoints(self._endpoint, self._run_endpoint)
        self._claims = Claims(config, self._store, self._endpoints.busy_since)
        self._planner = self._claims.planner
        self._placement = Placement(
            self._host,
            settings_of(config),
            config.state_dir,
            Sources(holders=lambda: self._claims.ledger.holders),
        )
        order = tuple(self._vendors)
        around = Around(
            write_files=CdiFiles(config.cdi_dir, order).write,
            discovered=self._metrics.discovered,
            order=order,
        )
        self._loops = [self._health.vendor_loop(vendor, around) for vendor in vendors]

    async def run(self) -> None:
        """Answer probes at once, serve once no other daemon does; ends when cancelled."""
        self._metrics.registry.register(
            StateCollector(lambda: self._store.current, lambda: self._planner.resources.value)
        )
        self._metrics.registry.register(self._health.collector)
        self._metrics.registry.register(
            SharingCollector(lambda: self._planner.current, self._claims.ledger.held)
        )
        async with self._http(), only_daemon(self._config.state_dir):
            self._leading = True
            await self._health.load()
            for status in self._config.skipped:
                self._store.set_status(status)
            await self._serve()

    async def _serve(self) -> None:
        background = [
            self._keep("kubelet_watch", self._kubelet.watch),
            self._keep("kubelet_count", self._count_kubelets),
            *(self._keep(name, task) for name, task in self._claims.tasks().items()),
            self._keep("placement", self._place),
            self._keep("uevents", self._watch_uevents),
            *(self._keep(name, once) for name, once in self._health.tasks()),
            *(self._keep(f"{loop.vendor.name}_discovery", loop.run) for loop in self._loops),
        ]
        try:
            await self._endpoints.follow(self._planner.resources)
        finally:
            for loop in self._loops:
                loop.stop()
            for task in background:
                task.cancel()
            await asyncio.wait(background, timeout=STOP_S)

    def _keep(
        self, name: str, once: Callable[[], object], pause_s: float = RETRY_S
    ) -> "asyncio.Task[None]":
        return asyncio.create_task(
            keep(name, once, pause_s, self._metrics.task_failed),  # type: ignore[arg-type]
            name=name,
        )

    async def _place(self) -> None:
        await self._placement.follow(self._store.latest, self._planner.resources)

    async def _watch_uevents(self) -> None:
        def wake(event: Uevent) -> None:
            self._health.uevent(event)
            for loop in self._loops:
                loop.wake()

        try:
            await watch_uevents(wake)
        except OSError as error:
            log.info("no_uevents", reason=str(error), instead="discovery every 5 s")
            await asyncio.Future()

    async def _count_kubelets(self) -> None:
        first = await self._kubelet.listening.until(lambda identity: identity is not None)
        while True:
            first = await self._kubelet.listening.until(
                lambda identity, known=first: identity not in (None, known)  # type: ignore[misc]
            )
            self._metrics.kubelet_restarted()

    def _endpoint(self, resource: Resource) -> Endpoint:
        plugin = ResourcePlugin(resource, self._answer, self._prefer, self._metrics)
        return Endpoint(plugin, self._kubelet, self._metrics, self._seed)

    def _prefer(self, resource: Resource, preference: Preference) -> Sequence[AdvertisedID]:
        """Sharing first says which ids make sense together, then the policy chooses."""
        return self._placement.prefer(resource, narrow(resource, preference))

    def _run_endpoint(self, endpoint: Endpoint) -> "asyncio.Task[None]":
        return self._keep(endpoint.plugin.name, endpoint.run)

    async def _answer(
        self, resource: Resource, entries: Sequence[AdvertisedDevice]
    ) -> ContainerEdits:
        """What a container gets for `entries`, which are in use from here on unless it fails."""
        devices = devices_of(resource.name, entries, self._store.current.devices)
        devices = tuple(replace(device, resource=resource.name) for device in devices)
        async with self._claims.forms.claiming(resource, entries):
            shares = self._claims.sharing.edits(resource, entries, devices)
            edits = await self._answers.edits(devices, shares)
        self._placement.handed_out(resource, entries)
        return edits

    def _waiting_for(self) -> str:
        """Why the daemon is not ready, empty when it is."""
        if not self._leading:
            return "another daemon on this node holds the lock"
        slow = [loop.vendor.name for loop in self._loops if not loop.looked]
        if slow:
            return "first discovery of " + ", ".join(slow)
        if self._kubelet.listening.value is None:
            return f"no kubelet listens on {self._kubelet.path}"
        unregistered = list(self._endpoints.problems())
        return f"not watched by the kubelet: {', '.join(unregistered)}" if unregistered else ""

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[None]:
        """The endpoint, bound again and again where its address is taken."""
        address = self._config.metrics_address
        if address is None:
            yield
            return
        loop = asyncio.get_running_loop()
        app = application(self._metrics.registry, partial(loop_alive, loop), self._waiting_for)
        task = self._keep("http", partial(_serve_http, app, address))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _serve_http(app: App, address: tuple[str, int]) -> None:
    try:
        server = await asyncio.to_thread(serve_http, app, address)
    except OSError as error:
        raise DevicePluginError(f"{address[0]}:{address[1]}: {error.strerror}") from error
    log.info("metrics_served", address=f"{address[0]}:{server.server_port}")
    try:
        await asyncio.Future()
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
