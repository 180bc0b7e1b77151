"""Sharing as a part of the daemon: planner, ledger, the guard of forms, programs, their tasks."""

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


class SharingSettings(Struct, frozen=True):
    """What a configuration says of sharing; `launches` start the programs that its rules need."""

    sharing: Sharing
    launches: Launches


def sharing_settings(config: Config) -> SharingSettings:
    """The rules, and what starts the programs that they need: whether the node has them is asked
    when they are started."""
    sharing, host = sharing_of(config.sections), Host(config.host_root)
    return SharingSettings(sharing, launches_of(sharing, host, config.sections))


class SharingPart(Part[Config]):
    """What decides who may have which device; `retention.listed` is what the kubelet is shown.

    It stands after the part that discovers: what is planned is what was found.
    """

    def __init__(self, config: Config, store: InventoryStore) -> None:
        settings = sharing_settings(config)
        self.sharing, self._shows_pods = settings.sharing, shows_pods(config.sections)
        self.ledger, self._split = Ledger(time.monotonic), dict[Container, str]()
        self._programs = Programs(settings.launches, self._program_changed)
        self._store, self.containers = store, Latest[Containers]({})
        self.retention = Retention(self.ledger)
        self.planner = Planner(
            store, self.ledger, self.sharing, self._programs.faults, self.retention.apply
        )
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
        }

    async def use(self, config: Config) -> None:
        """Share by other settings from now on; what pods hold they keep."""
        settings = sharing_settings(config)
        enforced = self.sharing.enforced
        self.sharing = replace(settings.sharing, enforced=enforced)
        self._shows_pods = shows_pods(config.sections)
        self._programs.use(settings.launches)
        self.planner.use(self.sharing)

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
