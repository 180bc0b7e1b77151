"""Sharing as a part of the daemon: planner, ledger, the guard of forms and MPS, and their tasks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deviceplugin.config.config import Config
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.ledger_watch import LedgerWatch
from deviceplugin.kubelet.retention import Retention
from deviceplugin.resources.forms import FormGuard
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.metrics import SharingCollector, StateCollector
from deviceplugin.resources.mps import MpsSupervisor
from deviceplugin.resources.mps_settings import find_control
from deviceplugin.resources.plan import Sharing, sharing_of
from deviceplugin.resources.planner import Planner
from deviceplugin.runtime.part import Collector, Once, Part


@dataclass(frozen=True, slots=True)
class Terms:
    """What a configuration says of sharing; `mps_program` None where no rule needs it."""

    sharing: Sharing
    mps_program: str | None
    mps_root: Path


def terms_of(config: Config) -> Terms:
    """Raises ConfigError where a rule shares through MPS and the program is not to be had."""
    sharing = sharing_of(config.sections)
    root = config.host_root / sharing.mps.root.lstrip("/")
    return Terms(sharing, find_control(config), root)


class SharingPart(Part[Config]):
    """What decides who may have which device; `retention.listed` is what the kubelet is shown.

    It stands after the part that discovers: what is planned is what was found.
    """

    def __init__(self, config: Config, store: InventoryStore) -> None:
        terms = terms_of(config)
        self.sharing = terms.sharing
        self.ledger = Ledger(time.monotonic)
        self._mps = MpsSupervisor(terms.mps_program, terms.mps_root, self._mps_changed)
        self._store = store
        self.retention = Retention(self.ledger)
        self.planner = Planner(
            store, self.ledger, self.sharing, self._mps.faults, self.retention.apply
        )
        self._watch = LedgerWatch(
            self.ledger,
            config.kubelet_dir / "pod-resources" / "kubelet.sock",
            self.retention.observe,
            lambda: bool(self.planner.current.decided) or self.retention.waiting,
        )
        self.forms = FormGuard(
            self.ledger,
            self._watch,
            lambda: self.planner.current.choices,
            lambda: store.current.devices,
        )

    def tasks(self) -> Mapping[str, Once]:
        """The plan, the ledger and MPS."""
        return {
            "plan": self._plan,
            "ledger": self._watch.watch,
            "ledger_plan": self.planner.follow_ledger,
            "mps": self._follow_mps,
        }

    def check(self, config: Config) -> None:
        """MPS needs its program."""
        terms_of(config)

    async def use(self, config: Config) -> None:
        """Share by other terms from now on; what pods hold they keep."""
        terms = terms_of(config)
        self.sharing = terms.sharing
        self._mps.use(terms.mps_program, terms.mps_root)
        self.planner.use(terms.sharing)

    def collectors(self) -> Mapping[str, Collector]:
        """Devices and vendors, isolation and what containers hold."""
        planner, store, listed = self.planner, self._store, self.retention.listed
        return {
            "devices": StateCollector(lambda: store.current, lambda: listed.value),
            "sharing": SharingCollector(lambda: planner.current, self.ledger.held),
        }

    async def _plan(self) -> None:
        """Not before the kubelet was asked what pods hold: the first list has that too."""
        await self._watch.asked.wait()
        await self.planner.plan()

    async def _follow_mps(self) -> None:
        await self._mps.follow(self.retention.listed, lambda: self._store.current.devices)

    def _mps_changed(self) -> None:
        self.planner.set_faults()
