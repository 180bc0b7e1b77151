"""The wiring: which task feeds which, and in what order they start and end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from deviceplugin.config.config import Config, address_text
from deviceplugin.config.reload import Origin, ReloadCollector, Reloader
from deviceplugin.daemon.generation import VendorSide, with_vendors
from deviceplugin.daemon.health import HealthWiring
from deviceplugin.daemon.sharing import Claims, SharingSettings, sharing_settings
from deviceplugin.errors import DevicePluginError
from deviceplugin.host import Host
from deviceplugin.host.uevents import Uevent, watch_uevents
from deviceplugin.kubelet.lifecycle import DEVICE_PLUGINS, Endpoint
from deviceplugin.kubelet.metrics import Metrics
from deviceplugin.kubelet.plugin import ResourcePlugin
from deviceplugin.kubelet.reconcile import Endpoints
from deviceplugin.kubelet.socket import KubeletSocket
from deviceplugin.metrics.http import App, HttpServer, application, loop_alive
from deviceplugin.model import AdvertisedDevice, AdvertisedID, ContainerEdits, Preference, Resource
from deviceplugin.resources.allocation import devices_of
from deviceplugin.resources.metrics import SharingCollector, StateCollector
from deviceplugin.runtime.keep import keep
from deviceplugin.runtime.lock import only_daemon
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.vendor import Vendor, VendorModule

log = structlog.get_logger()

STOP_S = 1.5  # children end in it
RETRY_S = 5.0


class Daemon:
    """Serves the devices of `vendors` to the kubelet until cancelled; made on the loop.

    `now` gives Unix seconds, `seed` the jitter of retries. What two vendors claim is the earlier
    one's. Without an `origin` the configuration is never read again.
    """

    def __init__(
        self,
        config: Config,
        vendors: Sequence[Vendor],
        now: Callable[[], float],
        seed: int,
        origin: Origin | None = None,
    ) -> None:
        self._config, self._seed = config, seed
        self._metrics = Metrics()
        self._health = HealthWiring(config, Host(config.host_root), now)
        self._store = self._health.store
        self._leading = False
        self._kubelet = KubeletSocket(config.kubelet_dir / DEVICE_PLUGINS / "kubelet.sock")
        self._endpoints = Endpoints(self._endpoint, self._run_endpoint)
        self._claims = Claims(config, self._store)
        self._planner, self._listed = self._claims.planner, self._claims.retention.listed
        self._side = self._side_of(config, vendors)
        self._sides = [self._side]
        self._agents: dict[str, asyncio.Task[None]] = {}
        self._http_task: asyncio.Task[None] | None = None
        self._address: tuple[str, int] | None = None
        self._reloader = Reloader(origin, self.use, now) if origin else None

    def _side_of(self, config: Config, vendors: Sequence[Vendor]) -> VendorSide:
        return VendorSide(config, vendors, self._health, self._claims, self._metrics.discovered)

    async def run(self) -> None:
        """Answer probes at once, serve once no other daemon does; ends when cancelled."""
        self._register_collectors()
        async with self._http(), only_daemon(self._config.state_dir):
            self._leading = True
            await self._health.load()
            for status in self._config.skipped:
                self._store.set_status(status)
            await self._serve()

    def _register_collectors(self) -> None:
        register = self._metrics.registry.register
        register(StateCollector(lambda: self._store.current, lambda: self._listed.value))
        register(self._health.collector)
        register(SharingCollector(lambda: self._planner.current, self._claims.ledger.held))
        if self._reloader is not None:
            reloader = self._reloader
            register(ReloadCollector(lambda: reloader.last))

    async def _serve(self) -> None:
        reloading = self._reloader.tasks() if self._reloader else {}
        background = [
            self._keep("kubelet_watch", self._kubelet.watch),
            self._keep("kubelet_count", self._count_kubelets),
            *(self._keep(name, task) for name, task in self._claims.tasks().items()),
            self._keep("uevents", self._watch_uevents),
            *(self._keep(name, once) for name, once in self._health.tasks()),
            *(self._keep(name, once) for name, once in reloading.items()),
        ]
        self._side.start(self._keep)
        self._follow_agents()
        try:
            await self._endpoints.follow(self._listed)
        finally:
            background += [*self._agents.values(), *(t for s in self._sides for t in s.stop())]
            for task in background:
                task.cancel()
            await asyncio.wait(background, timeout=STOP_S)

    async def use(self, config: Config, modules: Sequence[VendorModule]) -> None:
        """Serve by another configuration, without an end of any stream; returns once it is in
        force. Raises ConfigError with everything as it was.

        Until the new vendors have looked, lists and answers are those of the old ones.
        """
        config, vendors = await with_vendors(config, modules)
        settings, side, old = sharing_settings(config), self._side_of(config, vendors), self._side
        self._sides.append(side)
        await old.rest()
        self._planner.hold()
        try:
            self._health.use(config)
            side.start(self._keep)
            await side.looked()
        finally:
            self._switch(config, settings, side)
        await self._listen(config)
        self._sides.remove(old)
        await asyncio.wait([*old.stop(), asyncio.ensure_future(old.close())])

    def _switch(self, config: Config, settings: SharingSettings, side: VendorSide) -> None:
        """In one step on the loop: an answer is the old configuration's or the new one's."""
        before, self._config, self._side = self._side, config, side
        configure_logs(config.log_level, config.log_format)
        for name in self._store.current.vendors.keys() - {*side.names}:
            self._store.forget(name)
        for status in config.skipped:
            self._store.set_status(status)
        self._claims.use(settings)
        self._follow_agents()
        before.stop()

    def _follow_agents(self) -> None:
        """Listen to the agents that the configuration wants, and to no other."""
        wanted = dict(self._health.agents(self._config, self._side.names))
        for source in self._agents.keys() - wanted.keys():
            self._agents.pop(source).cancel()
            self._health.desk.faults(source, ())
        for source in wanted.keys() - self._agents.keys():
            self._agents[source] = self._keep(source, wanted[source])

    def _keep(
        self, name: str, once: Callable[[], object], pause_s: float = RETRY_S
    ) -> "asyncio.Task[None]":
        return asyncio.create_task(
            keep(name, once, pause_s, self._metrics.task_failed),  # type: ignore[arg-type]
            name=name,
        )

    async def _watch_uevents(self) -> None:
        def wake(event: Uevent) -> None:
            self._health.uevent(event)
            self._side.wake()

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
        """As the newest configuration has it."""
        return self._side.placement.prefer(resource, preference)

    def _run_endpoint(self, endpoint: Endpoint) -> "asyncio.Task[None]":
        return self._keep(endpoint.plugin.name, endpoint.run)

    async def _answer(
        self, resource: Resource, entries: Sequence[AdvertisedDevice]
    ) -> ContainerEdits:
        """What a container gets for `entries`, which are in use from here on unless it fails.

        It ends by the configuration by which it began.
        """
        side, sharing = self._side, self._claims.sharing
        devices = devices_of(resource.name, entries, self._store.current.devices)
        async with self._claims.forms.reserving(resource, entries):
            shares = sharing.granted(resource, entries, devices)
            edits = await side.answers.edits(devices, shares)
        side.placement.handed_out(resource, entries)
        return edits

    def _waiting_for(self) -> str:
        """Why the daemon is not ready, empty when it is."""
        if not self._leading:
            return "another daemon on this node holds the lock"
        slow = [loop.vendor.name for loop in self._side.loops if not loop.looked.is_set()]
        if slow:
            return "first discovery of " + ", ".join(slow)
        if self._kubelet.listening.value is None:
            return f"no kubelet listens on {self._kubelet.path}"
        unregistered = list(self._endpoints.problems())
        return f"not watched by the kubelet: {', '.join(unregistered)}" if unregistered else ""

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[None]:
        """The endpoint, bound again and again where its address is taken."""
        await self._listen(self._config)
        try:
            yield
        finally:
            await self._stop_http()

    async def _listen(self, config: Config) -> None:
        """Serve at the address of `config`; where that is so already, nothing happens."""
        address = config.metrics_address
        if address == self._address:
            return
        await self._stop_http()
        self._address = address
        if address is not None:
            loop = asyncio.get_running_loop()
            app = application(self._metrics.registry, partial(loop_alive, loop), self._waiting_for)
            self._http_task = self._keep("http", partial(_serve_http, app, address))

    async def _stop_http(self) -> None:
        if self._http_task is not None:
            self._http_task.cancel()
            await asyncio.wait([self._http_task])


async def _serve_http(app: App, address: tuple[str, int]) -> None:
    try:
        server = await asyncio.to_thread(HttpServer, app, address)
    except OSError as error:
        raise DevicePluginError(f"{address_text(address)}: {error.strerror}") from error
    log.info("metrics_served", address=address_text((address[0], server.port)))
    try:
        await asyncio.Future()
    finally:
        server.close()
