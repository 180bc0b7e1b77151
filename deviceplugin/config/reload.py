"""What comes of a changed configuration: it is taken, it means nothing new, or it is
refused with everything as it was. How it is taken is the daemon's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.config.config import Config
from deviceplugin.config.notices import notices
from deviceplugin.config.watch import watch_files
from deviceplugin.errors import ConfigError
from deviceplugin.metrics.registry import Family
from deviceplugin.runtime.part import Collector, Once, Part
from deviceplugin.vendor import VendorModule


class Change(Struct, frozen=True):
    """A key, as `rules[0].offers`, with its value before and after; None where it was not there."""

    key: str
    before: object
    after: object


def differences(before: object, after: object, key: str = "") -> Iterator[Change]:
    """The changes from one document to the other, in the order of their keys.

    Lists of one length are compared item by item, of different lengths as a whole.
    """
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(before.get(name), after.get(name), inner)
    elif _are_alike(before, after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):  # type: ignore[call-overload]  # both are lists
            yield from differences(old, new, f"{key}[{index}]")
    else:
        yield Change(key, before, after)


def _are_alike(before: object, after: object) -> bool:
    if isinstance(before, str) or isinstance(after, str):
        return False
    if not isinstance(before, Sequence) or not isinstance(after, Sequence):
        return False
    return len(before) == len(after)


class LastReload(Struct, frozen=True):
    """Whether the configuration that is there now is the one in force, and since when (Unix
    seconds) the one in force is known to be good."""

    successful: bool
    succeeded_at: float


class ReloadCollector:
    """Reads the outcome at each scrape."""

    def __init__(self, last: Callable[[], LastReload]) -> None:
        self._last = last

    def collect(self) -> Iterator[Family]:
        """Both gauges."""
        last = self._last()
        taken = Family(
            "deviceplugin_config_last_reload_successful",
            "gauge",
            "1 while the configuration that is there is in force, 0 while it is refused",
        )
        taken.add((), float(last.successful))
        yield taken
        at = Family(
            "deviceplugin_config_last_reload_success_timestamp_seconds",
            "gauge",
            "When a configuration was last taken or found unchanged",
        )
        at.add((), last.succeeded_at)
        yield at


log = structlog.get_logger()


SHORT = 80


Load = Callable[[], tuple[Config, Sequence[VendorModule]]]


Use = Callable[[Config, Sequence[VendorModule]], Awaitable[None]]


class Origin(Struct, frozen=True, kw_only=True):
    """Where the configuration comes from: `config` is the one in force, `load` reads it again,
    `describe` gives it as one document, `asked` is set when somebody wants it read now, `keep`
    is given each one that is in force and came from files. `refused` is why the files were bad at
    the start, and `good_at` (Unix seconds) when the configuration that serves instead was good."""

    config: Config
    load: Load
    describe: Callable[[Config], Mapping[str, Any]]
    asked: asyncio.Event
    keep: Callable[[Config], None] = lambda _: None
    refused: str = ""
    good_at: float | None = None


class Reloader(Part[Config]):
    """Keeps the daemon's configuration true to its files; `use` takes a new one, or raises
    ConfigError with nothing changed. `now` gives Unix seconds."""

    def __init__(self, origin: Origin, use: Use, now: Callable[[], float]) -> None:
        self._origin, self._use, self._now = origin, use, now
        self._running = origin.config
        self._one_at_a_time = asyncio.Lock()
        self._refused = self._reason = origin.refused
        self.last = LastReload(not origin.refused, origin.good_at or now())

    @property
    def refused(self) -> str:
        """Why the configuration that is there is not in force, empty where it is."""
        if self.last.successful:
            return ""
        return f"the changed configuration is refused, the last good one stays: {self._reason}"

    def remark(self) -> str:
        """That another configuration than that of the files is served."""
        return self.refused

    def tasks(self) -> Mapping[str, Once]:
        """What runs for as long as the daemon serves, by name."""
        return {"reload_watch": self._watch, "reload_asked": self._follow_asked}

    def collectors(self) -> Mapping[str, Collector]:
        """The last reload."""
        return {"reload": ReloadCollector(lambda: self.last)}

    async def _watch(self) -> None:
        if not self._origin.refused:
            await self._keep()
        if self._origin.config.source is None:
            await asyncio.Future()
        else:
            await watch_files(self._origin.config.source, self._changed)

    async def _follow_asked(self) -> None:
        while True:
            await self._origin.asked.wait()
            self._origin.asked.clear()
            async with self._one_at_a_time:
                self._refused = ""  # whoever asks gets an answer
                await self._reload(log.info)

    async def _changed(self) -> None:
        async with self._one_at_a_time:
            await self._reload(log.info if self._refused else log.debug)

    async def _reload(self, tell_unchanged: Callable[[str], object]) -> None:
        try:
            changes = await self._take()
        except ConfigError as error:
            self._refuse(str(error))
            return
        self._refused = self._reason = ""
        self.last = LastReload(True, self._now())
        if changes:
            log.info("configuration_reloaded", changes=[_told(change) for change in changes])
        else:
            tell_unchanged("configuration_unchanged")

    async def _take(self) -> Sequence[Change]:
        """What changed, once it is in force."""
        config, modules = await asyncio.to_thread(self._origin.load)
        describe = self._origin.describe
        changes = tuple(differences(describe(self._running), describe(config)))
        if changes:
            await self._use(config, modules)
            self._running = config
            await self._keep()
            for event, fields in notices(config):
                log.warning(event, **fields)
        return changes

    async def _keep(self) -> None:
        if self._running.source is not None:
            await asyncio.to_thread(self._origin.keep, self._running)

    def _refuse(self, reason: str) -> None:
        self.last = replace(self.last, successful=False)
        if reason != self._refused:
            log.error("configuration_refused", reason=reason, instead="the last good one stays")
        self._refused = self._reason = reason


def _told(change: Change) -> dict[str, object]:
    """The change with its values where they are short."""
    values = {"before": change.before, "after": change.after}
    return {"key": change.key} | {k: v for k, v in values.items() if len(repr(v)) <= SHORT}
