"""Sharing put together: planner, ledger, the guard of forms and MPS, and their tasks."""

import time
from collections.abc import Awaitable, Callable, Mapping

from deviceplugin.config import Config
from deviceplugin.forms import Forms
from deviceplugin.inventory import InventoryStore
from deviceplugin.kubelet.ledger import Ledger
from deviceplugin.kubelet.ledger_watch import LedgerWatch
from deviceplugin.kubelet.retention import Retention
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.mps import MpsSupervisor
from deviceplugin.mps_settings import find_control
from deviceplugin.planner import Planner
from deviceplugin.sharing import sharing_of

BusySince = Callable[[ResourceName, AdvertisedID], float | None]


class Claims:
    """What decides who may have which device; `busy_since` as Retention has it."""

    def __init__(self, config: Config, store: InventoryStore, busy_since: BusySince) -> None:
        self.sharing = sharing_of(config.sections)
        self.ledger = Ledger(time.monotonic)
        root = config.host_root / self.sharing.mps.root.lstrip("/")
        self._mps = MpsSupervisor(find_control(config), root, self._mps_changed)
        self._store = store
        self.planner = Planner(
            store, Retention(busy_since), self.ledger, self.sharing, self._mps.faults
        )
        self._watch = LedgerWatch(
            self.ledger,
            config.kubelet_dir / "pod-resources" / "kubelet.sock",
            self.planner.observe,
            lambda: self.planner.contested,
        )
        self.forms = Forms(
            self.ledger,
            self._watch,
            lambda: self.planner.current.choices,
            lambda: store.current.devices,
        )

    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What runs for as long as the daemon serves, by name."""
        return {
            "plan": self.planner.plan,
            "ledger": self._watch.watch,
            "ledger_plan": self.planner.follow_ledger,
            "mps": self._follow_mps,
        }

    async def _follow_mps(self) -> None:
        await self._mps.follow(self.planner.resources, lambda: self._store.current.devices)

    def _mps_changed(self) -> None:
        self.planner.set_faults()
