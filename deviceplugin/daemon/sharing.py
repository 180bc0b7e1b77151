"""Sharing as a part of the daemon: planner, ledger, the guard of forms, programs, their tasks."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping

import structlog
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.config.config import Config
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.ledger_watch import LedgerWatch
from deviceplugin.kubelet.retention import Retention
from deviceplugin.metrics.section import shows_pods
from deviceplugin.resources.automatic import Choice, choices, chosen
from deviceplugin.resources.build import Enforced
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.methods import Launches, launches_of
from deviceplugin.resources.metrics import Held, SharingCollector, StateCollector
from deviceplugin.resources.pairs import Container, Containers, Pairs, containers_of, splits
from deviceplugin.resources.plan import Sharing, sharing_of
from deviceplugin.resources.planner import Planner
from deviceplugin.resources.programs import Programs
from deviceplugin.resources.report import Report, kept_of, problems_of
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Part

log = structlog.get_logger()

_SPLIT_ACTION = "delete the pod; let every pod ask for both resources of a joined rule"


AGAIN_S = 10.0  # nothing tells when a program that was absent is there


class SharingSettings(Struct, frozen=True):
    """What a configuration says of sharing; `launches` start the programs that its rules need,
    `choices` are the methods that a policy wants."""

    sharing: Sharing
    launches: Launches
    choices: tuple[Choice, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether a method may be chosen later."""
        return any(choice.reason for choice in self.choices)


def sharing_settings(config: Config) -> SharingSettings:
    """The rules, and what starts the programs that they need: whether the node has them is asked
    when they are started. Of methods that a policy wants it is asked at once."""
    sharing, host = sharing_of(config.sections), Host(config.host_root)
    found = choices(sharing, host, config.sections)
    sharing = chosen(sharing, found)
    return SharingSettings(sharing, launches_of(sharing, host, config.sections), found)


class SharingPart(Part[Config]):
    """What decides who may have which device; `retention.listed` is what the kubelet is shown.

    It stands after the part that discovers: what is planned is what was found.
    """

    def __init__(self, config: Config, store: InventoryStore) -> None:
        settings = sharing_settings(config)
        self._config, self._settings, self.sharing = config, settings, settings.sharing
        self._used, self._shows_pods = asyncio.Event(), shows_pods(config.sections)
        self.ledger, self._split = Ledger(time.monotonic), dict[Container, str]()
        self._programs = Programs(settings.launches, self._program_changed)
        self._store, self.containers = store, Latest[Containers]({})
        self.retention = Retention(self.ledger)
        faults, listed = self._programs.faults, self.retention.apply
        self.planner = Planner(store, self.ledger, self.sharing, faults, listed)
        self._watch = LedgerWatch(
            self.ledger,
            config.kubelet_dir / "pod-resources" / "kubelet.sock",
            self._observed,
            self._contested,
        )
        self.pairs = Pairs(
            time.monotonic, lambda: self.retention.listed.value, lambda: self.ledger.holders
        )
        self.forms = FormGuard(
            self.ledger,
            self._watch,
            lambda: self.planner.current.choices,
            lambda: store.current.devices,
            self.pairs,
        )

    def tasks(self) -> Mapping[str, Once]:
        """The plan, the ledger and the programs of sharing methods."""
        return {
            "plan": self._plan,
            "ledger": self._watch.watch,
            "ledger_plan": self.planner.follow_ledger,
            "programs": self._follow_programs,
            "sharing_methods": self._choose,
        }

    async def use(self, config: Config) -> None:
        """Share by other settings from now on; what pods hold they keep."""
        self._config, self._shows_pods = config, shows_pods(config.sections)
        self._take(sharing_settings(config))
        self.planner.use(self.sharing)
        self._used.set()

    def _take(self, settings: SharingSettings) -> None:
        self._settings = settings
        self.sharing = replace(settings.sharing, enforced=self.sharing.enforced)
        self._programs.use(settings.launches)

    async def _choose(self) -> None:
        """Say which methods were chosen, and look again for those whose program is absent."""
        told: tuple[str, ...] = ()
        while True:
            self._used.clear()
            if (lines := self.chosen) != told:
                told = lines
                for line in lines:
                    log.info("sharing_method_chosen", reason=line)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if self._settings.waits else None):
                    await self._used.wait()
            if self._settings.waits and not self._used.is_set():
                again = sharing_settings(self._config)
                if again.choices != self._settings.choices:
                    self._take(again)
                    self.planner.enforce(self.sharing)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Which sharing methods policies chose, or did not, and why."""
        return tuple(choice.text for choice in self._settings.choices)

    def enforce(self, enforced: Enforced) -> None:
        """Plan by what the kernel enforces from now on."""
        if enforced != self.sharing.enforced:
            self.sharing = replace(self.sharing, enforced=enforced)
            self.planner.enforce(self.sharing)

    @property
    def shows_pods(self) -> bool:
        """Whether metrics may name pods."""
        return self._shows_pods

    def problems(self) -> list[Report]:
        """What the rules name and cannot be offered."""
        return problems_of(self.planner.current)

    def kept(self) -> list[Report]:
        """Ids that are listed although nothing is behind them."""
        return kept_of(self._store.current, self.retention.listed.value)

    def collectors(self) -> Mapping[str, Collector]:
        """Devices and vendors, isolation and what containers hold."""
        planner, store, listed = self.planner, self._store, self.retention.listed
        return {
            "devices": StateCollector(
                lambda: store.current, lambda: listed.value, lambda: self.retention.kept
            ),
            "sharing": SharingCollector(lambda: planner.current, self._shown),
        }

    def _shown(self) -> Iterable[Held]:
        """Which pods hold what, where metrics may say so."""
        return self.ledger.held() if self._shows_pods else ()

    async def _plan(self) -> None:
        """Not before the kubelet was asked what pods hold: the first list has that too."""
        await self._watch.asked.wait()
        await self.planner.plan()

    async def _follow_programs(self) -> None:
        await self._programs.follow(self.retention.listed, lambda: self._store.current.devices)

    def _contested(self) -> bool:
        """The more often the kubelet is asked, the better is known who was there before an
        Allocate: only pods that came with it may hold what it gave."""
        return bool(self.planner.current.choices) or self.retention.waiting

    def _observed(self) -> None:
        self.retention.observe()
        held = self.ledger.held()
        self.containers.set(containers_of(held))
        split = splits(held, self.retention.listed.value)
        for container in sorted(split.keys() - self._split.keys()):
            namespace, pod, name = container
            fields = {"namespace": namespace, "pod": pod, "container": name}
            log.error("pair_split", **fields, held=split[container], action=_SPLIT_ACTION)
        self._split = dict(split)

    def _program_changed(self) -> None:
        self.planner.set_faults()
