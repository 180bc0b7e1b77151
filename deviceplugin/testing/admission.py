"""Admitting pods as the kubelet does: choice of devices, Allocate, what a failure leaves."""

import asyncio
import random
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from deviceplugin.testing.answers import Merged, merge_answers
from deviceplugin.testing.devicemanager import DeviceManager, Endpoint, Holder
from deviceplugin.testing.plugin_client import PluginClient, RpcError
from deviceplugin.testing.pods import Admission, AdmissionError, Allocation, Kind, Pod
from deviceplugin.testing.topology import Demand, NotAlignedError, choose_nodes


class NotAllocatedError(Exception):
    """The device manager's own refusal, with its text."""


class Pick(Struct, kw_only=True):
    """Devices being taken for one container, random among equals; `missing` counts down."""

    resource: str
    missing: int
    manager: DeviceManager
    dice: random.Random
    taken: set[str] = field(default_factory=set)

    def take(self, candidates: Iterable[str]) -> bool:
        """Take from the candidates what is still missing; True once nothing is."""
        pool = sorted(set(candidates) - self.taken)
        chosen = self.dice.sample(pool, min(self.missing, len(pool)))
        self.taken.update(chosen)
        self.manager.allocated.setdefault(self.resource, set()).update(chosen)
        self.missing -= len(chosen)
        return self.missing == 0


class Admissions:
    """The pods of the node. One admission at a time, as in the kubelet's single sync loop."""

    def __init__(self, manager: DeviceManager, seed: int) -> None:
        self.pods: dict[str, Pod] = {}
        self.listed: set[str] = set()
        self.stopped: set[tuple[str, str]] = set()
        self.killed: dict[str, str] = {}
        self._manager = manager
        self._dice = random.Random(seed)  # noqa: S311 -- reproducible choices, no secret
        self._sync_loop = asyncio.Lock()

    async def admit(self, pod: Pod) -> Admission:
        """Allocate for every container; AdmissionError leaves behind what the kubelet leaves."""
        async with self._sync_loop:
            if pod.key not in self.pods:
                self.drop_inactive()  # an earlier pod of this name was another pod
            return await self._admit(pod, frozenset())

    async def readmit_all(self) -> list[str]:
        """Admit all pods again as after a kubelet restart; the keys of those it kills for good."""
        async with self._sync_loop:
            killed = []
            for pod in list(self.pods.values()):
                try:
                    await self._admit(pod, self._running(pod))
                except AdmissionError as error:
                    self.killed[pod.key] = str(error)
                    killed.append(pod.key)
            return killed

    def remove(self, key: str) -> None:
        """End a pod; its devices come free at the next allocation or PodResources List."""
        del self.pods[key]
        self._manager.gone.add(key)
        self.listed.discard(key)
        self.stopped = {entry for entry in self.stopped if entry[0] != key}

    def drop_inactive(self) -> None:
        """Free what pods that are gone still hold."""
        self._manager.drop_inactive(self.pods)

    async def start_container(self, key: str, container: str) -> Merged:
        """Start a container (again): PreStartContainer where required, the cached answers merged.

        AdmissionError: the grace period is over, or PreStartContainer failed.
        """
        answers = []
        for resource, holding in list(self._manager.holders_of(key, container)):
            await self._pre_start(Holder(pod=key, container=container, resource=resource))
            answers.append(holding.answer)
        self.stopped.discard((key, container))
        self._dice.shuffle(answers)
        return merge_answers(answers)

    def _running(self, pod: Pod) -> frozenset[str]:
        names = {name for kind, name, _ in pod.steps() if kind is not Kind.INIT}
        return frozenset(name for name in names if (pod.key, name) not in self.stopped)

    async def _admit(self, pod: Pod, running: frozenset[str]) -> Admission:
        self.pods[pod.key] = pod
        try:
            allocations = await self._allocate_pod(pod, running)
        except (NotAllocatedError, RpcError) as error:
            self.remove(pod.key)
            raise AdmissionError(pod.key, str(error)) from error
        except NotAlignedError as error:
            self.remove(pod.key)
            raise AdmissionError(pod.key, str(error), "TopologyAffinityError") from error
        self.listed.add(pod.key)
        return Admission(pod=pod, allocations=tuple(allocations))

    async def _allocate_pod(self, pod: Pod, running: frozenset[str]) -> list[Allocation]:
        reusable: dict[str, set[str]] = {}
        made: list[Allocation] = []
        for kind, name, requests in pod.steps():
            wanted = self._device_requests(requests) if name not in running else {}
            nodes = self._choose_nodes(pod, name, wanted, reusable)
            for resource, count in wanted.items():
                holder = Holder(pod=pod.key, container=name, resource=resource)
                chosen = await self._choose(holder, count, reusable.get(resource, set()), nodes)
                if chosen:
                    made.append(await self._allocate(holder, chosen))
            self._update_reusable(pod, kind, name, reusable)
        return made

    def _device_requests(self, requests: Mapping[str, int]) -> dict[str, int]:
        known = [item for item in requests.items() if self._manager.is_device_resource(item[0])]
        if known:
            self.drop_inactive()
        self._dice.shuffle(known)
        return dict(known)

    def _update_reusable(
        self, pod: Pod, kind: Kind, name: str, reusable: dict[str, set[str]]
    ) -> None:
        for resource, holding in self._manager.holders_of(pod.key, name):
            ids = reusable.setdefault(resource, set())
            if kind is Kind.INIT:
                ids |= holding.ids
            else:
                ids -= holding.ids

    def _choose_nodes(
        self, pod: Pod, name: str, wanted: Mapping[str, int], reusable: Mapping[str, set[str]]
    ) -> frozenset[int] | None:
        demands = []
        for resource, count in wanted.items():
            if self._manager.holding(Holder(pod=pod.key, container=name, resource=resource)):
                continue
            ids = self._free(resource) | reusable.get(resource, set())
            every = tuple(self._manager.devices.get(resource, {}).values())
            free = tuple(device for device in every if device.id in ids)
            demands.append(Demand(needed=count, free=free, every=every))
        return choose_nodes(self._manager.topology_policy, demands)

    def _free(self, resource: str) -> set[str]:
        manager = self._manager
        return manager.healthy.get(resource, set()) - manager.allocated.get(resource, set())

    async def _choose(
        self, holder: Holder, required: int, reusable: set[str], nodes: frozenset[int] | None
    ) -> set[str]:
        """The ids to allocate, none when the container has them already."""
        held = self._manager.holding(holder)
        if held and len(held) != required:
            raise NotAllocatedError(f"{holder} holds {len(held)} devices and asks for {required}")
        self._check_health(holder.resource, held)
        if len(held) == required:
            return set()
        pick = Pick(
            resource=holder.resource, missing=required, manager=self._manager, dice=self._dice
        )
        if not pick.take(reusable):
            await self._fill(required, pick, nodes)
        return pick.taken

    def _check_health(self, resource: str, held: frozenset[str]) -> None:
        healthy = self._manager.healthy.get(resource)
        if healthy is None:
            raise NotAllocatedError(f"cannot allocate unregistered device {resource}")
        unhealthy = f"cannot allocate unhealthy devices {resource}"
        if not healthy:
            raise NotAllocatedError(f"no healthy devices present; {unhealthy}")
        if not held <= healthy:
            raise NotAllocatedError(
                f"previously allocated devices are no longer healthy; {unhealthy}"
            )

    async def _fill(self, required: int, pick: Pick, nodes: frozenset[int] | None) -> None:
        """Take aligned devices first, then those the plugin prefers, then any."""
        resource = pick.resource
        free = self._free(resource)
        if len(free) < pick.missing:
            raise NotAllocatedError(
                f"not enough free devices of {resource}: {pick.missing} needed, {len(free)} free"
            )
        aligned = self._aligned(resource, free, nodes)
        if pick.missing < len(aligned):
            free = aligned
        elif pick.take(aligned):
            return
        # before the call: a list may come during it, and the kubelet does not look again
        unaligned = {name for name in free if self._manager.devices[resource][name].nodes}
        preferred = await self._prefer(resource, free | pick.taken, pick.taken, required)
        _ = pick.take(preferred & free) or pick.take(unaligned) or pick.take(free)

    def _aligned(self, resource: str, ids: set[str], nodes: frozenset[int] | None) -> set[str]:
        if nodes is None:
            return set()
        known = self._manager.devices[resource]
        return {name for name in ids if not nodes.isdisjoint(known[name].nodes)}

    async def _prefer(
        self, resource: str, available: set[str], must_include: set[str], size: int
    ) -> frozenset[str]:
        endpoint = self._manager.endpoints.get(resource)
        options = endpoint.options if endpoint else None
        if options is None or not options.get_preferred_allocation_available:
            return frozenset()
        client = live_client(endpoint)
        return await client.prefer(self._unsorted(available), self._unsorted(must_include), size)

    async def _allocate(self, holder: Holder, ids: set[str]) -> Allocation:
        """Call Allocate. An error frees what no container holds, an empty answer frees nothing."""
        started_s = self._manager.clock()
        try:
            client = live_client(self._manager.endpoints.get(holder.resource))
            answer = await client.allocate(self._unsorted(ids))
        except (NotAllocatedError, RpcError):
            self._manager.restore_allocated()
            raise
        if not answer.container_responses:
            raise NotAllocatedError(f"no container_responses in the answer for {holder.resource}")
        self._check_crash(holder, ids)
        self._manager.hold(holder, ids, answer)
        return Allocation(
            container=holder.container,
            resource=holder.resource,
            device_ids=tuple(sorted(ids)),
            answer=answer.container_responses[0],
            elapsed_s=self._manager.clock() - started_s,
        )

    def _check_crash(self, holder: Holder, ids: set[str]) -> None:
        lost = record_removed_in_flight(self._manager, holder.resource, ids)
        if lost:
            self._manager.restore_allocated()
            raise NotAllocatedError(f"a crash of the kubelet: {lost}")

    async def _pre_start(self, holder: Holder) -> None:
        resource = holder.resource
        endpoint = self._manager.endpoints.get(resource)
        if endpoint is None:
            text = f"endpoint not found in cache for a registered resource: {resource}"
            raise AdmissionError(holder.pod, text)
        if endpoint.options is None or not endpoint.options.pre_start_required:
            return
        ids = self._unsorted(self._manager.holding(holder))
        try:
            await live_client(endpoint).pre_start(ids)
        except (NotAllocatedError, RpcError) as error:
            raise AdmissionError(holder.pod, str(error)) from error

    def _unsorted(self, ids: Iterable[str]) -> list[str]:
        shuffled = sorted(ids)
        self._dice.shuffle(shuffled)
        return shuffled


def live_client(endpoint: Endpoint | None) -> PluginClient:
    """The client of a running endpoint, else NotAllocatedError."""
    if endpoint is None:
        raise NotAllocatedError("an unknown device plugin")
    if endpoint.client is None or endpoint.stopped_at_s is not None:
        name = endpoint.client.socket if endpoint.client else "of an earlier kubelet"
        raise NotAllocatedError(f"endpoint {name} has been stopped")
    return endpoint.client


def record_removed_in_flight(manager: DeviceManager, resource: str, ids: Iterable[str]) -> str:
    """Record a crash if ids that were asked for are no longer listed; its text, "" if none."""
    lost = sorted(set(ids) - manager.devices.get(resource, {}).keys())
    if not lost:
        return ""
    text = f"{resource}: {lost} removed from the list while an Allocate of them was in flight"
    manager.crashes.append(text)
    return text
