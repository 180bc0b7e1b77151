"""Reads everything that the checks look at, once: vendors on threads of their own, each call with
a deadline, so that a GPU that hangs is a finding and not the end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.bypass.judge import Bypass, Held, judged, own_nodes
from deviceplugin.bypass.look import look as open_gpus
from deviceplugin.diagnose import reading
from deviceplugin.diagnose.model import (
    GpuFacts,
    GpuProcess,
    NodeFacts,
    PciGpu,
    RuntimeFacts,
    Snapshot,
)
from deviceplugin.discovery.loop import look_once
from deviceplugin.discovery.probe import Prober
from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.modules import read_module_version
from deviceplugin.host.readings import read_hardware
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.socket import is_listening
from deviceplugin.model import Device, DeviceID, Inventory
from deviceplugin.names import socket_path_problem
from deviceplugin.resources.ledger import HoldersUnknownError
from deviceplugin.telemetry.counts import SampleCounts
from deviceplugin.telemetry.sampler import Sampler, grouped, listed
from deviceplugin.telemetry.state import Answer
from deviceplugin.telemetry.who import read_pod_uid, read_pods
from deviceplugin.vendor import Closable, Measured, ProcessTelemetry, Telemetry, Vendor

_MODULES: Mapping[str, str] = {"nvidia": "nvidia", "amd": "amdgpu"}  # those that have a version
_KUBELET_SOCKET = "device-plugins/kubelet.sock"
_POD_RESOURCES = "pod-resources/kubelet.sock"
Holders = Mapping[DeviceID, frozenset[tuple[str, str]]]


class Around(Struct, frozen=True, kw_only=True):
    """Where to look. `held` are namespace and name of the pods that hold each device, `listed` the
    healthy ids by resource: both as the running daemon has them, None without one. `allowed` are
    pods that may use GPUs which they do not hold."""

    node_name: str
    host: Host
    own: Host
    cdi_dir: Path
    kubelet_dir: Path
    deadline_s: float
    window_s: float
    now: Callable[[], float]
    runtime: RuntimeFacts | None = None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], bool | None] = reading.read_clock
    held: Holders | None = None
    listed: Mapping[str, int] | None = None
    daemon_problem: str = ""
    allowed: tuple[str, ...] = ()


class _Asked(Struct, frozen=True):
    """What one GPU answered, in how many seconds; no answer where it was not asked."""

    answers: Mapping[DeviceID, Answer]
    took_s: float | None

    def measured(self) -> tuple[Measured, ...]:
        return tuple(one for answer in self.answers.values() for one in answer.measured)


async def look(vendors: Sequence[Vendor], store: InventoryStore, deadline_s: float) -> None:
    """Discover and probe: the inventory with every fault that vendors tell."""
    order = tuple(vendor.name for vendor in vendors)
    await asyncio.gather(*(look_once(vendor, store, order) for vendor in vendors))
    await asyncio.gather(*(_probe(vendor, store, deadline_s) for vendor in vendors))


async def _probe(vendor: Vendor, store: InventoryStore, deadline_s: float) -> None:
    prober = Prober(vendor, deadline_s)
    devices = [d for d in store.current.devices.values() if d.vendor == vendor.name]
    try:
        findings = await prober.probe(devices)
    finally:
        prober.close()
    faults = [fault for found in findings.values() for fault in found.faults]
    events = [event for found in findings.values() for event in found.events]
    store.set_faults(f"{vendor.name}:probe", [*faults, *events])


async def gather(around: Around, vendors: Sequence[Vendor], inventory: Inventory) -> Snapshot:
    """The snapshot; the vendors let their libraries go, for an open one blocks changes of
    partitions."""
    samplers = {v.name: Sampler(v, SampleCounts(), around.deadline_s) for v in vendors}
    try:
        gpus = await _measured(around, samplers, inventory)
        node = await _node(around, tuple(samplers.values()), inventory)
    finally:
        for sampler in samplers.values():
            sampler.close()
        for vendor in vendors:
            if isinstance(vendor, Closable):
                vendor.close()
    return Snapshot(
        node_name=around.node_name,
        taken_at=around.now(),
        window_s=around.window_s,
        gpus=tuple(gpus),
        node=node,
    )


async def _measured(
    around: Around, samplers: Mapping[str, Sampler], inventory: Inventory
) -> Sequence[GpuFacts]:
    groups = grouped(inventory.devices.values())
    before = await _round(samplers, groups)
    await around.pause(around.window_s)
    now = await _round(samplers, groups)
    facts = [await asyncio.to_thread(_facts, around.host, group, inventory) for group in groups]
    return [_with(f, samplers, *asked) for f, *asked in zip(facts, before, now, strict=True)]


async def _round(
    samplers: Mapping[str, Sampler], groups: Sequence[Sequence[Device]]
) -> Sequence[_Asked]:
    return [await _ask(samplers.get(group[0].vendor), group) for group in groups]


async def _ask(sampler: Sampler | None, group: Sequence[Device]) -> _Asked:
    if sampler is None:
        return _Asked({}, None)
    started = time.perf_counter()
    answers = await sampler.sample(group)
    return _Asked(answers, time.perf_counter() - started if answers else None)


def _with(facts: GpuFacts, samplers: Mapping[str, Sampler], *asked: _Asked) -> GpuFacts:
    before, now = asked
    sampler = samplers.get(facts.device.vendor)
    answer = now.answers.get(facts.device.id)
    return replace(
        facts,
        measures=sampler is not None and isinstance(sampler.vendor, Telemetry),
        answered=None if answer is None else answer.up,
        latency_s=now.took_s,
        before=before.measured(),
        now=now.measured(),
    )


def _facts(host: Host, group: Sequence[Device], inventory: Inventory) -> GpuFacts:
    """What the files say of a GPU; blocking."""
    device, address = group[0], group[0].pci_address
    paths = dict.fromkeys(path for one in group for path in one.nodes)
    facts = GpuFacts(
        device=device,
        parts=tuple(group[1:]),
        faults=tuple(f for one in group for f in inventory.faults.get(one.id, ())),
        nodes=tuple(reading.read_node(host, path) for path in paths),
    )
    if address is None:
        return facts
    return replace(
        facts,
        readings=read_hardware(host, address),
        correctable_errors=reading.read_correctable(host, address),
        speed=reading.read_speed(host, address),
        aperture_bytes=reading.read_aperture(host, address),
    )


async def _node(around: Around, samplers: Sequence[Sampler], inventory: Inventory) -> NodeFacts:
    facts = await asyncio.to_thread(_files, around, inventory)
    registered, problem = await _registered(around.kubelet_dir)
    unallocated, why = await asyncio.to_thread(_unallocated, around, inventory)
    return replace(
        facts,
        registered=registered,
        unallocated=unallocated,
        unallocated_problem=why,
        kubelet_problem=problem,
        processes=await _processes(around, samplers, inventory),
    )


def _files(around: Around, inventory: Inventory) -> NodeFacts:
    """Blocking."""
    host, vendors = around.host, tuple(inventory.vendors.values())
    versions = {name: read_module_version(host, m) for name, m in _MODULES.items()}
    kubelet = around.kubelet_dir
    served = any(device.vendor == "nvidia" for device in inventory.devices.values())
    return NodeFacts(
        vendors=vendors,
        module_versions={name: version for name, version in versions.items() if version},
        bus=_bus(host),
        cdi_files=tuple(reading.read_cdi_files(around.own, str(around.cdi_dir), host)),
        kubelet_listens=is_listening(kubelet / _KUBELET_SOCKET) if kubelet.is_dir() else None,
        listed=around.listed,
        daemon_problem=around.daemon_problem,
        runtime=around.runtime,
        clock_synchronised=around.clock(),
        dumps=reading.read_dumps(host),
        persistenced=host.exists(reading.PERSISTENCED) if served else None,
    )


def _unallocated(around: Around, inventory: Inventory) -> tuple[tuple[Bypass, ...] | None, str]:
    """Who uses a GPU without holding it, or why that is not known; blocking."""
    if around.held is None:
        return None, f"no daemon to ask who holds what: {around.daemon_problem}"
    nodes = own_nodes(inventory.devices.values())
    seen = open_gpus(around.host, around.own, nodes)
    if seen.problem:
        return None, seen.problem
    held = Held(by_device=around.held)
    return tuple(judged(seen.openers, nodes, held, around.allowed)), ""


def _bus(host: Host) -> tuple[PciGpu, ...]:
    try:
        return tuple(reading.read_bus(host))
    except DiscoveryError:  # without the bus nothing is discovered either, and that is a finding
        return ()


async def _registered(kubelet_dir: Path) -> tuple[Mapping[str, int] | None, str]:
    """The kubelet's ids by resource, or why they are not known."""
    path = kubelet_dir / _POD_RESOURCES
    if problem := socket_path_problem(str(path)):
        return None, f"{path}: {problem}"
    if not is_listening(path):
        return None, f"nobody listens on {path}"
    api = PodResources(path)
    try:
        return await api.read_allocatable(), ""
    except HoldersUnknownError as error:
        return None, str(error)
    finally:
        await api.forget()


async def _processes(
    around: Around, samplers: Sequence[Sampler], inventory: Inventory
) -> tuple[GpuProcess, ...] | None:
    """None where no vendor of a GPU here tells."""
    if not any(isinstance(s.vendor, ProcessTelemetry) for s in samplers):
        return None
    found = await listed(samplers, inventory.devices)
    pods = {uid: (pod.namespace, pod.name) for uid, pod in read_pods(around.host)}
    processes = []
    for one in found:
        uid = await asyncio.to_thread(read_pod_uid, around.host, one.pid)
        processes.append(
            GpuProcess(
                pid=one.pid,
                device=one.device,
                pod=uid,
                holds=_holds(around.held, inventory, one.device, pods.get(uid or "")),
                seen=around.host.exists(f"/proc/{one.pid}"),
            )
        )
    return tuple(sorted(processes, key=lambda p: (p.device, p.pid)))


def _holds(
    held: Holders | None, inventory: Inventory, device: DeviceID, pod: tuple[str, str] | None
) -> bool | None:
    """A process on a partition is on its GPU too, in some drivers' words."""
    if held is None or pod is None:
        return None
    parent = inventory.devices[device].parent
    family = [d.id for d in inventory.devices.values() if device in (d.id, d.parent)]
    return any(pod in held.get(one, ()) for one in (*family, *([parent] if parent else [])))
