"""From the inventory to the plan, and the log of what changed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from deviceplugin.inventory.changes import levelled
from deviceplugin.inventory.log_limit import LINES, Line, LogLimit
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Device, DeviceID, Fault, Inventory
from deviceplugin.resources.build import PlanProblem
from deviceplugin.resources.ledger import Ledger
from deviceplugin.resources.plan import SOURCE, Plan, Resources, Sharing
from deviceplugin.resources.section import Method

log = structlog.get_logger()

ProgramFaults = Callable[
    [Resources, Mapping[DeviceID, Device], Mapping[str, Method]], Sequence[Fault]
]


class Planner:
    """Keeps `current` true to the inventory, to the rules and to what containers hold.

    `planned` is told the resources of each plan in the step on the loop in which it is made.
    """

    def __init__(
        self,
        store: InventoryStore,
        ledger: Ledger,
        sharing: Sharing,
        program_faults: ProgramFaults,
        planned: Callable[[Resources], None],
    ) -> None:
        self.current = Plan(resources={})
        self._store, self._ledger, self._planned = store, ledger, planned
        self._sharing, self._program_faults = sharing, program_faults
        self._problems: tuple[PlanProblem, ...] = ()
        self._looked_up: tuple[Mapping[DeviceID, Device], Sharing] | None = None
        self._held = False

    def hold(self) -> None:
        """Let the plan be as it is until `use`."""
        self._held = True

    def use(self, sharing: Sharing) -> None:
        """Plan by these rules from now on."""
        self._sharing, self._held = sharing, False
        self.set_faults()
        self._replan()

    def enforce(self, sharing: Sharing) -> None:
        """The same rules, by what the kernel enforces and which methods there are now."""
        self._sharing = sharing
        self.set_faults()
        self._replan()

    async def plan(self) -> None:
        """Turn each newest inventory into log events and a plan; runs until cancelled."""
        before, limit = Inventory(), LogLimit()
        async for inventory in self._store.latest.changes():
            self.set_faults()
            for level, (event, fields) in levelled(before, inventory):
                line = limit.line(fields, self._store.now())
                if line is Line.LOGGED:
                    getattr(log, level)(event, **fields)
                elif line is Line.LIMIT:
                    _log_limited(fields)
            before = inventory
            self._replan()

    def set_faults(self) -> None:
        """Report what sharing has against devices, before they are listed."""
        inventory = self._store.current
        faults = self._sharing.faults(inventory)
        if self._sharing.methods_used:
            plan = self._sharing.plan(inventory, self._ledger.usage.value, self.current)
            methods = self._sharing.section.METHODS
            found = self._program_faults(plan.resources, inventory.devices, methods)
            faults = (*faults, *found)
        self._store.set_faults(SOURCE, faults)

    async def follow_ledger(self) -> None:
        """Plan again whenever a device changes hands; runs until cancelled."""
        async for _ in self._ledger.usage.changes():
            if self.current.choices or self.current.decided or self._ledger.claimed:
                self._replan()

    def _replan(self) -> None:
        if self._held:
            return
        inventory = self._store.current
        self._look_up(inventory)
        plan = self._sharing.plan(inventory, self._ledger.usage.value, self.current)
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
        self._planned(plan.resources)

    def _look_up(self, inventory: Inventory) -> None:
        """What held ids mean changes with the devices and the rules, not with their health."""
        seen = self._looked_up
        if seen and seen[0] is inventory.devices and seen[1] is self._sharing:
            return
        self._looked_up = (inventory.devices, self._sharing)
        self._ledger.look_up(self._sharing.ids(inventory))

    def _log_forms(self, plan: Plan) -> None:
        before, after = self.current.decided, plan.decided
        for device in sorted(before.keys() | after.keys()):
            if before.get(device) != after.get(device):
                name = after.get(device)
                event = "form_free" if name is None else "form_decided"
                log.info(event, device=device, resource=name or before[device])


def _log_limited(fields: Mapping[str, Any]) -> None:
    named = {name: fields[name] for name in ("device", "source") if name in fields}
    reason = f"more than {LINES} lines within a minute; the others are left out"
    log.warning("health_log_limited", **named, reason=reason, action="see deviceplugin health")
