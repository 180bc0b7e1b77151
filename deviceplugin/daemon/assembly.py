"""Which parts the daemon has, in which order, and what each is made with."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from deviceplugin.alerts.service import AlertsPart, Watched
from deviceplugin.config.config import Config
from deviceplugin.config.reload import Origin, Reloader
from deviceplugin.daemon.audit import audit_part
from deviceplugin.daemon.capabilities import CAPABILITIES
from deviceplugin.daemon.core import Capability, Core, Start
from deviceplugin.daemon.daemon import Daemon, Tables, use_all
from deviceplugin.daemon.generation import Generations, Lasting
from deviceplugin.daemon.metrics import DaemonMetrics
from deviceplugin.daemon.parts import (
    ControlPart,
    GarbagePart,
    HttpPart,
    LivenessPart,
    LockPart,
    LogsPart,
    UeventsPart,
)
from deviceplugin.daemon.rules import UnusedRulesPart
from deviceplugin.daemon.sharing import SharingPart
from deviceplugin.daemon.views import ViewsPart
from deviceplugin.discovery.signs import Signs
from deviceplugin.enforcement.around import Around as Enforcing
from deviceplugin.enforcement.around import Counts
from deviceplugin.enforcement.service import EnforcementPart
from deviceplugin.health.report import Uses
from deviceplugin.health.service import AgentsPart, HealthPart
from deviceplugin.host import Host
from deviceplugin.kubelet.service import Answers, EndpointsPart, KubeletPart
from deviceplugin.metrics.process import ProcessCollector
from deviceplugin.model import AdvertisedID, Preference, Resource
from deviceplugin.resources.allocator import Allocator, Sources, log_allocation
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.part import Part
from deviceplugin.telemetry.around import Around
from deviceplugin.telemetry.service import TelemetryPart
from deviceplugin.vendor import VendorModule

PRIVATE = "sockets"  # in the state directory


def assemble(start: Start, capabilities: Sequence[Capability] = CAPABILITIES) -> Daemon:
    """The daemon with its parts; made on the loop.

    Raises ConfigError for a configuration by which a part cannot serve.
    """
    metrics, tables = DaemonMetrics(), Tables()
    tables.registry.register_all({"process": ProcessCollector(), "daemon": metrics})
    keeper = Keeper(metrics.task_failed)
    core = _core(start, keeper, metrics)
    config, host = start.config, Host(start.config.host_root)
    parts: list[Part[Config]] = [
        LivenessPart(),
        HttpPart(config, tables.routes, keeper),
        LockPart(config.state_dir),
        LogsPart(),
        core.health,
        core.generations,
        core.sharing,
        _unused_rules(core),
        AgentsPart(config, host, core.health, core.generations.vendors, keeper),
        GarbagePart(core.generations.current.looked),
        _uevents(core),
        ControlPart(config.state_dir, tables.operations),
        ViewsPart(config, core.health, core.sharing, core.generations),
        *(capability(core) for capability in capabilities),
    ]
    if start.origin is not None:
        parts.append(_reloader(start.origin, core, parts))
    parts += [core.kubelet, core.endpoints]
    return Daemon(parts, tables, keeper)


def _reloader(origin: Origin, core: Core, parts: Sequence[Part[Config]]) -> Part[Config]:
    reloader = Reloader(origin, partial(_reload, core.generations, parts), core.start.now)
    core.health.note(lambda: reloader.refused)
    return reloader


def _uevents(core: Core) -> Part[Config]:
    generations = core.generations
    signs = generations.signs
    core.health.note(lambda: signs.notice(generations.watched()))
    return UeventsPart([core.health.uevent, generations.uevent], signs.uevents)


def _unused_rules(core: Core) -> Part[Config]:
    sharing, generations = core.sharing, core.generations
    core.health.note(lambda: "\n".join(sharing.chosen))
    part = UnusedRulesPart(
        core.health.store, lambda: sharing.sharing.rules, lambda: not generations.problem()
    )
    core.health.note(lambda: part.notice)
    return part


def _core(start: Start, keeper: Keeper, metrics: DaemonMetrics) -> Core:
    config = start.config
    health = HealthPart(config, Host(config.host_root), config.state_dir, start.now)
    sharing = SharingPart(config, health.store)
    kubelet = KubeletPart(config.kubelet_dir, config.state_dir / PRIVATE)
    _show(health, sharing)
    generations = Generations(config, start.vendors, _lasting(health, sharing, keeper, metrics))
    telemetry = TelemetryPart(config, _around(start, health, sharing, generations))
    enforcement = _enforcement(start, health, sharing, telemetry)
    sources = partial(_sources, health, sharing, generations, enforcement)
    allocator = _allocator(sources, sharing, kubelet, generations)
    answers, listed = _answers(allocator, sharing, generations), sharing.retention.listed
    return Core(
        start=start,
        keeper=keeper,
        health=health,
        sharing=sharing,
        generations=generations,
        allocator=allocator,
        kubelet=kubelet,
        telemetry=telemetry,
        alerts=_alerts(start, sharing, telemetry),
        audit=audit_part(start, health, sharing, allocator),
        enforcement=enforcement,
        endpoints=EndpointsPart(kubelet, listed, answers, keeper, start.seed),
    )


def _show(health: HealthPart, sharing: SharingPart) -> None:
    listed = sharing.retention.listed
    health.show(Uses(sharing.ledger.held, lambda: listed.value, sharing.problems, sharing.kept))


def _allocator(
    sources: Callable[[], Sources],
    sharing: SharingPart,
    kubelet: KubeletPart,
    generations: Generations,
) -> Allocator:
    allocator = Allocator(sources, sharing.forms.reserving)
    allocator.listen("metrics", kubelet.metrics.allocated)
    allocator.listen("log", log_allocation)
    allocator.listen("placement", generations.allocated)
    return allocator


def _alerts(start: Start, sharing: SharingPart, telemetry: TelemetryPart) -> AlertsPart:
    watched = Watched(
        now=start.now,
        view=lambda: telemetry.view.value,
        held=sharing.ledger.held,
        listed=lambda: sharing.retention.listed.value,
    )
    return AlertsPart(start.config, watched)


def _answers(allocator: Allocator, sharing: SharingPart, generations: Generations) -> Answers:
    return Answers(
        allocate=allocator.allocate,
        prefer=partial(_prefer, sharing, generations),
        prefer_large=generations.prefer_large,
        held=lambda: sharing.ledger.holders,
    )


def _prefer(
    sharing: SharingPart, generations: Generations, resource: Resource, preference: Preference
) -> Sequence[AdvertisedID]:
    """Of the ids with which a container can get the other half of a joined pair."""
    return generations.prefer(resource, sharing.pairs.narrowed(resource, preference))


def _lasting(
    health: HealthPart, sharing: SharingPart, keeper: Keeper, metrics: DaemonMetrics
) -> Lasting:
    return Lasting(
        store=health.store,
        tracker=health.tracker,
        ledger=sharing.ledger,
        planner=sharing.planner,
        listed=sharing.retention.listed,
        keeper=keeper,
        discovered=metrics.discovered,
        signs=Signs(),
        containers=sharing.containers,
    )


def _around(
    start: Start, health: HealthPart, sharing: SharingPart, generations: Generations
) -> Around:
    return Around(
        now=start.now,
        vendors=generations.vendors,
        inventory=lambda: health.store.current,
        held=sharing.ledger.held,
        listed=lambda: sharing.retention.listed.value,
        events=health.tracker.event_counts,
        resets=health.tracker.reset_counts,
        tested=lambda: sharing.ledger.usage.value.tested,
    )


def _enforcement(
    start: Start, health: HealthPart, sharing: SharingPart, telemetry: TelemetryPart
) -> EnforcementPart:
    around = Enforcing(
        devices=lambda: health.store.current.devices,
        entries=lambda: sharing.ledger.entries,
        answered=lambda: sharing.ledger.answered,
        claims=lambda: tuple(chain.from_iterable(sharing.ledger.claim_memory.values())),
        claimants=lambda: sharing.ledger.claimants,
        usage=sharing.ledger.usage,
        listed=lambda: sharing.retention.listed.value,
        hold=sharing.enforce,
        shows_pods=lambda: sharing.shows_pods,
        view=lambda: telemetry.view.value,
        counts=Counts(),
        monotonic=time.monotonic,
    )
    return EnforcementPart(start.config, around)


def _sources(
    health: HealthPart,
    sharing: SharingPart,
    generations: Generations,
    enforcement: EnforcementPart,
) -> Sources:
    """By the configuration in force now."""
    grant = sharing.sharing.granted
    return Sources(
        devices=health.store.current.devices,
        granted=lambda resource, entries, devices: enforcement.noted(
            resource, grant(resource, entries, devices)
        ),
        vendor_edits=generations.current.edits.edits,
        finished=enforcement.finished if enforcement.writes_files else None,
    )


async def _reload(
    generations: Generations,
    parts: Sequence[Part[Config]],
    config: Config,
    modules: Sequence[VendorModule],
) -> None:
    await use_all(parts, await generations.prepare(config, modules))
    await generations.retire()
