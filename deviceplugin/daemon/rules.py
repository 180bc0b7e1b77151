"""Rules that come to nothing as a part of the daemon: they are logged, once each."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from deviceplugin.config.config import Config
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.resources.section import Rule
from deviceplugin.resources.unused import UnusedRule, unused_rules
from deviceplugin.runtime.part import Once, Part

log = structlog.get_logger()
_POLL_S = 0.5


class UnusedRulesPart(Part[Config]):
    """Compares the rules with the devices whenever one of them changes.

    Nothing is logged before every vendor has looked (`looked`). It stands after the sharing part,
    whose rules it is given.
    """

    def __init__(
        self,
        store: InventoryStore,
        rules: Callable[[], Sequence[Rule]],
        looked: Callable[[], bool],
    ) -> None:
        self._store, self._rules, self._looked = store, rules, looked
        self._logged: frozenset[UnusedRule] = frozenset()

    @property
    def notice(self) -> str:
        """The rules that come to nothing, one line each; empty where there are none."""
        return "\n".join(str(rule) for rule in unused_rules(self._store.current, self._rules()))

    def tasks(self) -> Mapping[str, Once]:
        """The comparison."""
        return {"unused_rules": self._follow}

    async def use(self, config: Config) -> None:
        """Compare the new rules."""
        self._compare()

    async def _follow(self) -> None:
        async for _ in self._store.latest.changes():
            while not self._looked():  # noqa: ASYNC110  # at the start only, and nothing tells
                await asyncio.sleep(_POLL_S)
            self._compare()

    def _compare(self) -> None:
        found = unused_rules(self._store.current, self._rules())
        for rule in found:
            if rule not in self._logged:
                tell = log.info if rule.expected else log.warning
                tell("rule_without_devices", rule=rule.label, reason=rule.reason)
        self._logged = frozenset(found)
