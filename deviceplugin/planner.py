"""From the inventory to what is listed: planning, retention, and the log of what changed."""

import asyncio
from pathlib import Path

import structlog

from deviceplugin.core.journal import events
from deviceplugin.core.resources import PlanProblem, Resources, plan_resources
from deviceplugin.inventory import InventoryStore
from deviceplugin.kubelet.podresources import HoldersUnknownError, read_holders
from deviceplugin.kubelet.retention import Retention
from deviceplugin.latest import Latest
from deviceplugin.model import Inventory

log = structlog.get_logger()

HOLDERS_S = 5.0


class Planner:
    """Keeps `resources` true to the inventory and to what pods hold (the socket at `holders`)."""

    def __init__(self, store: InventoryStore, retention: Retention, holders: Path) -> None:
        self.resources: Latest[Resources] = Latest({})
        self._store, self._retention, self._holders = store, retention, holders
        self._problems: tuple[PlanProblem, ...] = ()

    async def plan(self) -> None:
        """Turn each newest inventory into log events and resources; runs until cancelled."""
        before = Inventory()
        async for inventory in self._store.latest.changes():
            for event, fields in events(before, inventory):
                log.info(event, **fields)
            before = inventory
            self._replan()

    async def watch_holders(self) -> None:
        """Ask who holds what after each change of resources and while an id waits to be let go."""
        asked: Resources | None = None
        while True:
            resources = self.resources.value
            if resources and (self._retention.waiting or asked is not resources):
                try:
                    self._retention.observe(await read_holders(self._holders))
                except HoldersUnknownError as error:
                    log.debug("holders_unknown", reason=str(error))
                else:
                    self._replan()
                    asked = self.resources.value
            await asyncio.sleep(HOLDERS_S)

    def _replan(self) -> None:
        plan = plan_resources(self._store.current)
        for problem in plan.problems:
            if problem not in self._problems:
                log.error(
                    "resource_refused",
                    resource=problem.resource,
                    reason=problem.reason,
                    action=problem.action,
                )
        self._problems = plan.problems
        self.resources.set(self._retention.apply(plan.resources))
