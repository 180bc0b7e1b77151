"""What the commands `discover` and `explain` ask the running daemon: its own view of the node."""

import asyncio
from collections.abc import Mapping

from deviceplugin.config.config import Config
from deviceplugin.daemon.generation import Generations
from deviceplugin.daemon.sharing import SharingPart
from deviceplugin.daemon.workloads import workload_classes
from deviceplugin.errors import ConfigError
from deviceplugin.health.service import HealthPart
from deviceplugin.placement.asked import Asked, preference_asked, resource_asked
from deviceplugin.placement.explain import Question, explain
from deviceplugin.placement.registry import load_policy
from deviceplugin.placement.view import Policy
from deviceplugin.resources.report import compute_document, report
from deviceplugin.resources.unused import unused_document
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.part import Operation, Part, Reply
from deviceplugin.schema import Section


class DiscoverRequest(Section, frozen=True):
    """What the daemon offers now; `operation` is discover."""

    operation: str


class ExplainRequest(Section, frozen=True):
    """The flags of `explain`, as text; ids are separated by commas. An empty `available` is every
    id that is healthy and free, a lone comma is none."""

    operation: str
    resource: str
    size: str
    available: str = ""
    must_include: str = ""
    policy: str = ""


class ViewsPart(Part[Config]):
    """Answers from what is listed to the kubelet and from the ledger; asks no driver."""

    def __init__(
        self, config: Config, health: HealthPart, sharing: SharingPart, generations: Generations
    ) -> None:
        self._node, self._workloads = config.node_name, config.sections.get("workloads")
        self._store, self._notices = health.store, health.notices
        self._sharing, self._generations = sharing, generations

    async def use(self, config: Config) -> None:
        """Show the node by its name in `config`."""
        self._node, self._workloads = config.node_name, config.sections.get("workloads")

    def operations(self) -> Mapping[str, Operation]:
        """discover and explain."""
        return {
            "discover": Operation(DiscoverRequest, self._discover),
            "explain": Operation(ExplainRequest, self._explain),
        }

    async def _discover(self, _: DiscoverRequest) -> Reply:
        plan, listed = self._sharing.planner.current, self._sharing.retention.listed.value
        inventory = self._store.current
        shown = await asyncio.to_thread(report, self._node, inventory, plan, listed)
        unused = unused_document(inventory, self._sharing.sharing.rules)
        classes = await asyncio.to_thread(workload_classes, self._workloads, shown)
        return {**shown, "unused_rules": unused, "notices": list(self._notices()), **classes}

    async def _explain(self, request: ExplainRequest) -> Reply:
        try:
            asked = _asked(request)
            policy = await asyncio.to_thread(load_policy, self._policy(asked), "--policy")
            return await asyncio.to_thread(explain, self._question(asked, policy))
        except ConfigError as error:
            raise ControlError(str(error)) from error

    def _policy(self, asked: Asked) -> str:
        resource = resource_asked(asked, self._sharing.retention.listed.value)
        return asked.policy or self._generations.current.placement.policy_of(resource)

    def _question(self, asked: Asked, policy: Policy) -> Question:
        resource = resource_asked(asked, self._sharing.retention.listed.value)
        context = self._generations.current.placement.context
        held = self._sharing.ledger.holders.get(resource.name, frozenset())
        return Question(
            resource=resource,
            preference=preference_asked(asked, resource, held, context),
            context=context,
            name=self._policy(asked),
            not_held=self._sharing.planner.current.not_held.get(resource.name, ""),
            compute=compute_document(self._sharing.planner.current.compute.get(resource.name)),
            policy=policy,
        )


def _asked(request: ExplainRequest) -> Asked:
    if not request.size.isdecimal() or len(request.size) > 9:
        raise ControlError(f"size {request.size[:20]!r} is not a number of devices")
    return Asked(
        resource=request.resource,
        size=int(request.size),
        available=_ids(request.available) if request.available else None,
        must_include=_ids(request.must_include),
        policy=request.policy or None,
    )


def _ids(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)
