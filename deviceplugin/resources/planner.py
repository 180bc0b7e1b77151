"""From the inventory to what is listed: planning, retention, and the log of what changed."""

from collections.abc import Callable, Mapping, Sequence

import structlog

from deviceplugin.inventory.changes import events
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.retention import Retention
from deviceplugin.model import AdvertisedID, Device, DeviceID, Fault, Inventory, ResourceName
from deviceplugin.resources.build import PlanProblem
from deviceplugin.resources.ledger import Holders, Ledger
from deviceplugin.resources.plan import SOURCE, Plan, Resources, Sharing
from deviceplugin.runtime.latest import Latest

log = structlog.get_logger()


class Planner:
    """Keeps `resources` true to the inventory, to the rules and to what pods hold."""

    def __init__(
        self,
        store: InventoryStore,
        retention: Retention,
        ledger: Ledger,
        sharing: Sharing,
        mps_faults: Callable[[Resources, Mapping[DeviceID, Device]], Sequence[Fault]],
    ) -> None:
        self.resources: Latest[Resources] = Latest({})
        self.current = Plan(resources={})
        self._store, self._retention = store, retention
        self._ledger, self._sharing, self._mps_faults = ledger, sharing, mps_faults
        self._problems: tuple[PlanProblem, ...] = ()
        self._held = False

    def hold(self) -> None:
        """Let the lists be as they are until `use`."""
        self._held = True

    def use(self, sharing: Sharing) -> None:
        """Plan by these rules from now on."""
        self._sharing, self._held = sharing, False
        self.set_faults()
        self._replan()

    @property
    def contested(self) -> bool:
        """Whether somebody waits for pods to let go of something."""
        return bool(self.current.decided) or self._retention.waiting

    async def plan(self) -> None:
        """Turn each newest inventory into log events and resources; runs until cancelled."""
        before = Inventory()
        async for inventory in self._store.latest.changes():
            self.set_faults()
            for event, fields in events(before, inventory):
                log.info(event, **fields)
            before = inventory
            self._replan()

    def set_faults(self) -> None:
        """Tell what sharing has against devices, before they are listed."""
        inventory = self._store.current
        faults = self._sharing.faults(inventory)
        if self._sharing.uses_mps:
            plan = self._sharing.plan(inventory, self._ledger.usage.value, self.current)
            faults = (*faults, *self._mps_faults(plan.resources, inventory.devices))
        self._store.set_faults(SOURCE, faults)

    async def follow_ledger(self) -> None:
        """Plan again whenever a device changes hands; runs until cancelled."""
        async for _ in self._ledger.usage.changes():
            if self.current.choices:
                self._replan()

    def observe(self, holders: Holders) -> None:
        """Take one answer of the kubelet about what pods hold into account."""
        was_waiting = self._retention.waiting
        self._retention.observe(_with_claims(holders, self._ledger))
        if was_waiting or self._retention.waiting:
            self._replan()

    def _replan(self) -> None:
        if self._held:
            return
        plan = self._sharing.plan(self._store.current, self._ledger.usage.value, self.current)
        for problem in plan.problems:
            if problem not in self._problems:
                log.error(
                    "resource_refused",
                    resource=problem.resource,
                    reason=problem.reason,
                    action=problem.action,
                )
        self._log_forms(plan)
        self._problems, self.current = plan.problems, plan
        self.resources.set(self._retention.apply(plan.resources))

    def _log_forms(self, plan: Plan) -> None:
        before, after = self.current.decided, plan.decided
        for device in sorted(before.keys() | after.keys()):
            if before.get(device) != after.get(device):
                name = after.get(device)
                event = "form_free" if name is None else "form_decided"
                log.info(event, device=device, resource=name or before[device])


def _with_claims(holders: Holders, ledger: Ledger) -> Holders:
    """The answer and what else counts as in use: pods of a kubelet that has just restarted."""
    merged: dict[ResourceName, Mapping[AdvertisedID, int | None]] = dict(holders)
    for name, advertised in ledger.claims:
        merged[name] = {advertised: None} | dict(merged.get(name, {}))
    return merged
