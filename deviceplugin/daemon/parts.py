"""Small parts of the daemon: HTTP, liveness, control socket, lock, log, the kernel's events, the
garbage collector."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from deviceplugin.config.config import Config, address_text
from deviceplugin.daemon.door import check_files, door_of
from deviceplugin.errors import DevicePluginError
from deviceplugin.host.uevents import Uevent, isolated_from_uevents, watch_uevents
from deviceplugin.metrics.door import App
from deviceplugin.metrics.http import HttpServer, application
from deviceplugin.metrics.section import MetricsSection, metrics_section
from deviceplugin.runtime import garbage
from deviceplugin.runtime.control import Control
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.liveness import answering_liveness
from deviceplugin.runtime.lock import only_daemon, state_problem
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.runtime.part import Once, Operation, Page, Part

log = structlog.get_logger()


class HttpPart(Part[Config]):
    """Serves the pages at the configured address, bound again and again where that is taken.

    It is the first part: probes are answered while the others start and until they have ended.
    """

    def __init__(self, config: Config, routes: Mapping[str, Page], keeper: Keeper) -> None:
        self._address, self._routes = config.metrics_address, routes
        self._section = metrics_section(config.sections)
        self._keeper = keeper.another()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The endpoint."""
        self._start()
        try:
            yield
        finally:
            await self._keeper.end()

    def check(self, config: Config) -> None:
        """Raise ConfigError where files of the endpoint are not there."""
        check_files(metrics_section(config.sections))

    async def use(self, config: Config) -> None:
        """Serve at the address of `config`, to whom it says; if that is so already, nothing
        happens."""
        section = metrics_section(config.sections)
        if (config.metrics_address, section) != (self._address, self._section):
            self._address, self._section = config.metrics_address, section
            await self._keeper.end(None)  # or its address could be taken
            self._start()

    def _start(self) -> None:
        if self._address is not None:
            app = application(self._routes)
            self._keeper.start("http", partial(_serve_http, app, self._address, self._section))


async def _serve_http(app: App, address: tuple[str, int], section: MetricsSection) -> None:
    door = await asyncio.to_thread(door_of, section, address)
    try:
        server = await asyncio.to_thread(HttpServer, app, address, door)
    except OSError as error:
        raise DevicePluginError(f"{address_text(address)}: {error.strerror}") from error
    log.info("metrics_served", address=address_text((address[0], server.port)))
    try:
        await asyncio.Future()
    finally:
        server.close()


class LivenessPart(Part[Config]):
    """Answers the liveness probe, from before everything else until after it."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The socket."""
        with answering_liveness():
            yield


class LockPart(Part[Config]):
    """Whatever stands after it starts once no other daemon serves the node."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir, self._alone = state_dir, False
        self._foreign = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The lock of the state directory."""
        async with only_daemon(self._state_dir):
            self._alone = True
            yield

    def tasks(self) -> Mapping[str, Once]:
        """Looks at the directory again for as long as it is not ours."""
        return {"state_directory": self._look}

    async def _look(self) -> None:
        self._foreign = await asyncio.to_thread(state_problem, self._state_dir)
        if not self._foreign:
            await asyncio.Future()

    def problem(self) -> str:
        """Whether another daemon holds it, or others can write its directory."""
        return self._foreign if self._alone else "another daemon on this node holds the lock"


class ControlPart(Part[Config]):
    """Serves the operations on the control socket."""

    def __init__(self, state_dir: Path, operations: Mapping[str, Operation]) -> None:
        self._state_dir, self._control = state_dir, Control(operations)

    def tasks(self) -> Mapping[str, Once]:
        """The socket."""
        return {"control": partial(self._control.serve, self._state_dir)}


class LogsPart(Part[Config]):
    """Level and form of the log change with the configuration."""

    async def use(self, config: Config) -> None:
        """Write as `config` says."""
        configure_logs(config.log_level, config.log_format)


class UeventsPart(Part[Config]):
    """Passes the kernel's events to each of `listeners`; `heard` says whether there are any."""

    def __init__(
        self, listeners: Sequence[Callable[[Uevent], None]], heard: Latest[bool | None]
    ) -> None:
        self._listeners, self._heard = listeners, heard

    def tasks(self) -> Mapping[str, Once]:
        """The watch."""
        return {"uevents": self._watch}

    async def _watch(self) -> None:
        self._heard.set(not isolated_from_uevents())
        try:
            await watch_uevents(self._pass_on)
        except OSError as error:
            self._heard.set(False)
            log.info("no_uevents", reason=str(error), instead="discovery every 5 s")
            await asyncio.Future()

    def _pass_on(self, event: Uevent) -> None:
        for listener in self._listeners:
            listener(event)


class GarbagePart(Part[Config]):
    """Lets the garbage collector work again after `looked`, which has a deadline of its own."""

    def __init__(self, looked: Callable[[], Awaitable[None]], settle_s: float = 1.0) -> None:
        self._looked, self._settle_s = looked, settle_s

    def tasks(self) -> Mapping[str, Once]:
        return {"garbage_collector": self._resume}

    async def _resume(self) -> None:
        """A collection takes tens of milliseconds: the first lists go out before."""
        await self._looked()
        await asyncio.sleep(self._settle_s)
        garbage.resume()
        await asyncio.Future()
