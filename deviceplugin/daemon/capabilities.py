"""The capabilities beyond the core, and what each is made with."""

from functools import partial
from typing import TYPE_CHECKING

from deviceplugin.bypass.service import Around as BypassAround
from deviceplugin.bypass.service import BypassPart
from deviceplugin.compliance.service import CompliancePart
from deviceplugin.config.config import Config
from deviceplugin.daemon.core import Capability, Core
from deviceplugin.daemon.diagnosis import diagnose_command
from deviceplugin.daemon.generation import Generations
from deviceplugin.daemon.maintenance import look_ahead
from deviceplugin.daemon.sharing import SharingPart
from deviceplugin.daemon.unsupported import UnsupportedPart
from deviceplugin.diagnose.active.service import ActiveTestsPart
from deviceplugin.diagnose.service import DiagnosisPart
from deviceplugin.dra.service import DraPart
from deviceplugin.kubernetes.publish import FactsPart
from deviceplugin.kubernetes.service import KubernetesPart
from deviceplugin.labels.service import LabelsPart
from deviceplugin.labels.sources import Sources as LabelSources
from deviceplugin.maintenance.service import Around as LookingAhead
from deviceplugin.maintenance.service import MaintenancePart
from deviceplugin.model import ContainerEdits, Device, DeviceID, Inventory
from deviceplugin.page.service import PagePart
from deviceplugin.page.sources import Sources as PageSources
from deviceplugin.per_node.service import PerNodePart
from deviceplugin.profiling.service import ProfilingPart
from deviceplugin.provision.service import PartitionsPart
from deviceplugin.runs.service import Around as RunsAround
from deviceplugin.runs.service import RunsPart
from deviceplugin.runtime.part import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deviceplugin.diagnose.active.holds import Around as TestsAround
    from deviceplugin.dra.wiring import Forms, Wiring
    from deviceplugin.kubernetes.facts import NodeFacts
    from deviceplugin.page.model import AlertStatus
    from deviceplugin.page.status import Trends
    from deviceplugin.provision.wiring import Wiring as PartitionsWiring
    from deviceplugin.resources.plan import Sharing
    from deviceplugin.resources.section import Offer


def _kubernetes(core: Core) -> Part[Config]:
    sharing = core.sharing
    return KubernetesPart(
        core.start.config,
        core.health.store,
        lambda: (sharing.ledger.held(), sharing.retention.listed.value.keys()),
        notes=core.enforcement.notes,
    )


def _facts(core: Core) -> Part[Config]:
    return FactsPart(core.start.config, partial(_node_facts, core))


def _node_facts(core: Core) -> "NodeFacts | None":
    from deviceplugin.daemon.facts import Known, node_facts  # noqa: PLC0415  # where it is on

    if core.generations.problem():
        return None
    return node_facts(
        Known(
            inventory=core.health.store.current,
            topology=core.generations.current.placement.context.topology,
            listed=core.sharing.retention.listed.value,
            held=core.sharing.ledger.held(),
            view=core.telemetry.view.value,
        )
    )


def _telemetry(core: Core) -> Part[Config]:
    return core.telemetry


def _audit(core: Core) -> Part[Config]:
    return core.audit


def _compliance(core: Core) -> Part[Config]:
    source = core.start.config.source
    return CompliancePart(core.start.config, source.path if source else None, core.start.now)


def _alerts(core: Core) -> Part[Config]:
    return core.alerts


def _enforcement(core: Core) -> Part[Config]:
    return core.enforcement


def _page(core: Core) -> Part[Config]:
    health, sharing = core.health, core.sharing
    sources = PageSources(
        now=core.start.now,
        inventory=lambda: health.store.current,
        held=sharing.ledger.held,
        listed=lambda: sharing.retention.listed.value,
        notices=health.notices,
        view=lambda: core.telemetry.view.value,
        trends=partial(_trends, core),
        alerts=partial(_standing, core),
    )
    return PagePart(core.start.config, sources)


def _trends(core: Core) -> "Trends":
    history = core.telemetry.history
    if history is None:
        return {}
    from deviceplugin.page.status import wholes  # noqa: PLC0415  # where somebody asks for it
    from deviceplugin.page.trends import trends_of  # noqa: PLC0415
    from deviceplugin.telemetry.history import Series  # noqa: PLC0415

    return trends_of(
        lambda metric, gpu, start, end: history.query(Series(metric, gpu), start, end),
        wholes(core.health.store.current),
        core.start.now(),
    )


def _standing(core: Core) -> "tuple[AlertStatus, ...]":
    from deviceplugin.page.standing import alert_statuses  # noqa: PLC0415  # as above

    return alert_statuses(core.alerts.states)


def _unsupported(core: Core) -> Part[Config]:
    part = UnsupportedPart(core.start.config)
    core.health.note(lambda: part.notice)
    return part


def _diagnosis(core: Core) -> Part[Config]:
    part = DiagnosisPart(core.start.config, diagnose_command, core.start.now)
    core.health.note(lambda: part.notice)
    return part


def _active_tests(core: Core) -> Part[Config]:
    part = ActiveTestsPart[Config](
        core.start.config.state_dir,
        core.health.tracker.records,
        partial(_tests_around, core),
        lambda device, results: core.audit.record(
            "device.tested", device, {"results": list(results)}
        ),
    )
    core.health.note(lambda: part.notice)
    return part


def _maintenance(core: Core) -> Part[Config]:
    around = LookingAhead(core.start.now, core.health.store.latest)
    part = MaintenancePart(core.start.config, look_ahead, around)
    core.health.note(lambda: part.notice)
    return part


def _bypass(core: Core) -> Part[Config]:
    around = BypassAround(
        inventory=lambda: core.health.store.current,
        ledger=core.sharing.ledger,
        tell=core.audit.record,
    )
    part = BypassPart(core.start.config, around)
    core.health.note(lambda: part.notice)
    return part


def _tests_around(core: Core) -> "TestsAround":
    from deviceplugin.diagnose.active.holds import Around, living  # noqa: PLC0415  # with a test

    return Around(
        store=core.health.store,
        tracker=core.health.tracker,
        ledger=core.sharing.ledger,
        source=core.sharing.forms.source,
        listed=lambda: core.sharing.retention.listed.value,
        alive=living(core.start.config.state_dir),
    )


def _profiling(core: Core) -> Part[Config]:
    return ProfilingPart(core.start.config, core.telemetry.view, core.start.now)


def _runs(core: Core) -> Part[Config]:
    around = RunsAround(core.start.now, core.sharing.ledger, core.telemetry.view)
    return RunsPart(core.start.config, around)


def _labels(core: Core) -> Part[Config]:
    generations = core.generations
    sources = LabelSources(
        inventory=lambda: core.health.store.current,
        resources=lambda: core.sharing.planner.current.resources,
        vendors=generations.vendors,
        ready=lambda: not generations.problem(),
        now=core.start.now,
    )
    return LabelsPart(core.start.config, sources)


def _partitions(core: Core) -> Part[Config]:
    part = PartitionsPart(core.start.config, partial(_partitions_wiring, core), core.seat)
    core.health.note(lambda: part.notice)
    return part


def _partitions_wiring(core: Core) -> "PartitionsWiring":
    from deviceplugin.daemon.partitions import partitions_wiring  # noqa: PLC0415  # where it is on

    return partitions_wiring(core)


def _dra(core: Core) -> Part[Config]:
    return DraPart(core.start.config, partial(dra_wiring, core))


def _per_node(core: Core) -> Part[Config]:
    origin = core.start.origin
    return PerNodePart(core.start.config, origin.asked.set if origin else lambda: None)


def dra_wiring(core: Core) -> "Wiring":
    """What DRA works with, made where it is on."""
    from deviceplugin.dra.wiring import Wiring  # noqa: PLC0415  # where it is on
    from deviceplugin.kubernetes.api import InCluster  # noqa: PLC0415

    generations, rules = core.generations, _Rules(core.sharing)
    return Wiring(
        store=core.health.store,
        ledger=core.sharing.ledger,
        source=core.sharing.forms.source,
        described=partial(_described, generations),
        keeper=core.keeper,
        api=InCluster(),
        forms=rules.forms,
        apis=rules.apis,
        partitionable=core.seat.gpus,
        ours=core.seat.is_ours,
        fit=core.seat.fit,
        left=core.seat.is_left,
        claims=core.seat.follow,
        told=core.audit.claimed,
        limited=core.enforcement.claimed,
    )


class _Rules:
    """What the rules in force say of devices; the same objects while rules and devices are."""

    def __init__(self, sharing: SharingPart) -> None:
        self._sharing = sharing
        self._of: tuple[object, Sharing] | None = None
        self._forms: dict[DeviceID, list[Offer]] = {}
        self._apis: dict[DeviceID, tuple[str, ...]] = {}

    def forms(self, inventory: Inventory) -> "Forms":
        """The forms in which each device is offered."""
        self._look(inventory)
        return self._forms

    def apis(self, inventory: Inventory) -> "Mapping[DeviceID, tuple[str, ...]]":
        """The APIs of each device whose rule names some."""
        self._look(inventory)
        return self._apis

    def _look(self, inventory: Inventory) -> None:
        sharing = self._sharing.sharing
        if self._of is not None and self._of[0] is inventory.devices and self._of[1] is sharing:
            return
        self._of, self._forms, self._apis = (inventory.devices, sharing), {}, {}
        for one in sharing.offerings(inventory):
            self._forms.setdefault(one.device.id, []).append(one.offer)
            if one.apis is not None:
                self._apis[one.device.id] = one.apis


async def _described(
    generations: Generations, device: Device
) -> tuple[ContainerEdits, ContainerEdits]:
    """By the vendors in force now."""
    return await generations.current.edits.described(device)


# A capability beyond the core is one line here.
CAPABILITIES: tuple[Capability, ...] = (
    *(_audit, _kubernetes, _facts, _labels, _partitions, _dra, _telemetry, _enforcement),
    *(_alerts, _page, _unsupported, _per_node, _diagnosis, _active_tests, _compliance),
    *(_bypass, _profiling, _maintenance, _runs),
)
