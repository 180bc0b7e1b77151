"""Enforcement while it is on: what holds is looked at again and again, containers get limits."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from deviceplugin.enforcement.around import Around
from deviceplugin.enforcement.cgroups import LimitError, Tree
from deviceplugin.enforcement.files import LimitFiles, claim_key, claim_path
from deviceplugin.enforcement.held import Granted, grants_of, grants_of_claim, with_claims
from deviceplugin.enforcement.nri import Answer, Container, Session, unified
from deviceplugin.enforcement.pods import Outcome, keep_limits, wanted_of
from deviceplugin.enforcement.regions import Limits, limits_of
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.enforcement.standing import (
    CGROUPS,
    NOT_YET,
    NRI_SOCKET,
    Standing,
    enable,
    enforced,
    read_standing,
)
from deviceplugin.enforcement.watch import At, Use, breaches, uses_of
from deviceplugin.enforcement.wire import NriError
from deviceplugin.host import Host
from deviceplugin.resources.entries import Holder
from deviceplugin.vendor import Grant

log = structlog.get_logger()

LOOK_S = 10.0
NRI_AGAIN_S = 2.0
_ADVICE = "see docs/enforcement.md for what a limit needs on a node"


class Enforcer:
    """Sets limits by one section; made and run on the loop, what reads or writes files on threads.

    It is the `Handler` of the runtime's session.
    """

    def __init__(
        self,
        host: Host,
        section: EnforcementSection,
        around: Around,
        tree: Tree | None = None,
        state_dir: Path = Path(),
    ) -> None:
        """`tree` is the host's cgroup tree, by default where the host has it; below `state_dir` are
        the files of containers."""
        self._host, self._section, self._around = host, section, around
        self._state_dir = state_dir
        self._tree = tree or Tree(host.root / CGROUPS.lstrip("/"))
        self._connected = False
        self._tried = section.memory not in ("auto", "nri")
        self._told = ""
        self._unset: dict[Holder, str] = {}
        self.files: LimitFiles | None = None
        self.standing, self.counts = Standing(problem=NOT_YET), around.counts
        self.is_limiting = section.memory != "off"
        self.uses: Mapping[At, Use] = {}
        self.over: Mapping[At, Use] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._section.memory in ("auto", "nri"):
                group.create_task(self._serve_runtime())
            group.create_task(self._look_on())

    async def _look_on(self) -> None:
        while True:
            before = self._around.usage.value
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._around.usage.next(before)

    async def look(self) -> None:
        """Look at the node once: what holds, what containers have, and who uses more."""
        standing = await self._stand()
        granted = self._granted()
        if self.is_limiting and not self._tree_problem(standing):
            outcome = await asyncio.to_thread(self._keep, granted, standing.capacity)
            self._take(outcome)
        if self._section.excess.watch:
            self._watch(granted)
        if self.files is not None and self._around.answered():
            await self._sweep(self.files)

    async def _sweep(self, files: LimitFiles) -> None:
        """Files of containers that are gone go; what is held is asked after the files are read."""
        found = await asyncio.to_thread(files.read)
        claims, now_s = self._around.claims(), self._around.monotonic()
        held = frozenset(self._around.entries()) | {claim_key(claim.uid) for claim in claims}
        await asyncio.to_thread(files.sweep, found, held, now_s)

    async def _stand(self) -> Standing:
        """What holds now. The runtime may come or go while the files are read: then once more."""
        while True:
            connected = self._connected
            standing = await asyncio.to_thread(self._prepared, connected=connected)
            if connected == self._connected:
                self._publish(standing)
                return standing

    def _prepared(self, *, connected: bool) -> Standing:
        """With the controller enabled, where this process may do that."""
        if self.is_limiting:
            enable(self._tree)
        return read_standing(self._host, self._section, connected=connected)

    def _keep(self, granted: Granted, capacity: Limits) -> Outcome:
        wanted = wanted_of(self._host, self._tree, granted, capacity, pods_too=not self._connected)
        return keep_limits(self._tree, wanted, minimum=self._section.minimum)

    def _publish(self, standing: Standing) -> None:
        self.standing = standing
        if self.is_limiting:
            self._around.hold(enforced(standing, self._around.devices().values()))
        told = standing.problem or "in force"
        if self.is_limiting and self._tried and told != self._told:
            self._told = told
            if standing.problem:
                fields = {"reason": standing.problem, "action": _ADVICE}
                log.warning("memory_limits_not_in_force", **fields)
            else:
                log.info("memory_limits_in_force", gpus=sorted(standing.held))

    def _granted(self) -> Granted:
        around = self._around
        devices, claims = around.devices(), around.claims()
        granted = grants_of(around.entries(), around.listed(), devices)
        return with_claims(granted, claims, around.claimants(), devices) if claims else granted

    def _take(self, outcome: Outcome) -> None:
        self.counts.by_cgroup += outcome.written
        for holder, reason in outcome.failed.items():
            if self._unset.get(holder) != reason:
                self.counts.failed += 1
                _log_unset(holder, reason)
        self._unset = dict(outcome.failed)

    def _watch(self, granted: Granted) -> None:
        view = self._around.view()
        processes = view.processes if view is not None else None
        before = self.over
        self.uses = uses_of(granted, processes or ()) if processes is not None else {}
        self.over = breaches(self.uses, self._section.excess.tolerance_percent)
        for (holder, device), use in self.over.items():
            if (holder, device) not in before:
                fields = {"granted_bytes": use.granted_bytes, "used_bytes": use.used_bytes}
                log.warning("slice_exceeded", **_named(holder), device=device, **fields)

    # What the runtime asks.

    async def _serve_runtime(self) -> None:
        path = self._host.root / NRI_SOCKET.lstrip("/")
        session: Callable[[], Session] = partial(
            Session, self, self._set_connected, minimum=self._section.minimum
        )
        told = ""
        await self._stand()  # the regions are known before it is asked of containers
        while True:
            try:
                await session().run(path)
            except NriError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("nri_not_connected", reason=told, action=_ADVICE)
            finally:
                self._connected, self._tried = False, True
            await self.look()
            await asyncio.sleep(NRI_AGAIN_S)

    async def _set_connected(self) -> None:
        """The runtime asks us from here on."""
        self._connected = self._tried = True
        log.info("nri_connected", socket=NRI_SOCKET)
        await self._stand()

    def claimed(self, sources: Sequence[str]) -> tuple[Limits, str]:
        """The limits of a container that has these mounts of the host, by its claims, or why they
        cannot be told. Where a mount comes from is nothing that a pod can choose."""
        claims = {claim_path(self._state_dir, c.source, c.uid): c for c in self._around.claims()}
        found: list[Grant] = []
        for source in filter(claims.keys().__contains__, sources):
            found += grants_of_claim(claims[source], self._around.devices())
        reasons = filter(None, (self.standing.unsettable(grant.device) for grant in found))
        if reason := next(reasons, ""):
            return {}, reason
        return limits_of(found, self.standing.capacity), ""

    def created(self, container: Container) -> Answer:
        """The limits of a new container, or why it is not to be made."""
        if not (container.limits or container.problem):
            return Answer({})
        reason = container.problem or self._unsettable(container.limits)
        if not reason:
            self.counts.by_runtime += 1
            return Answer(unified(container.limits, minimum=self._section.minimum))
        holder = _holder(container)
        _log_unset(holder, reason)
        if self._section.failure == "refuse":
            self.counts.refused += 1
            text = f"the memory limit of its slices cannot be set: {reason}"
            return Answer({}, f"deviceplugin: container {container.name}: {text}")
        self.counts.failed += 1
        return Answer({})

    async def found(self, containers: list[Container]) -> dict[str, Limits]:
        """What runs without its limit, because we were away when it was made, gets it now."""
        return await asyncio.to_thread(self._reconciled, containers)

    def _reconciled(self, containers: list[Container]) -> dict[str, Limits]:
        cgroups, left = self._tree.containers(), dict[str, Limits]()
        for one in containers:
            cgroup = cgroups.get(one.id)
            if one.problem:
                _log_unset(_holder(one), one.problem)
            elif cgroup is None:
                left[one.id] = one.limits
            elif not _has(self._tree.limits(cgroup), one.limits):
                try:
                    self._tree.limit(cgroup, one.limits, minimum=self._section.minimum)
                except LimitError as error:
                    _log_unset(_holder(one), str(error))
                    left[one.id] = one.limits
        return left

    def _unsettable(self, limits: Limits) -> str:
        if problem := self._tree_problem(self.standing):
            return problem
        unknown = sorted(limits.keys() - self.standing.capacity.keys())
        return f"the kernel has no region {', '.join(unknown)}" if unknown else ""

    def _tree_problem(self, standing: Standing) -> str:
        """What keeps any limit from being set; not that it would be set late."""
        return "" if standing.capacity else standing.problem


def _has(now: Mapping[str, int | None] | None, limits: Limits) -> bool:
    return now is not None and all(now.get(region) == size for region, size in limits.items())


def _holder(container: Container) -> Holder:
    return Holder(namespace=container.namespace, pod=container.pod, container=container.name)


def _named(holder: Holder) -> dict[str, str]:
    return {"namespace": holder.namespace, "pod": holder.pod, "container": holder.container}


def _log_unset(holder: Holder, reason: str) -> None:
    log.error("memory_limit_not_set", **_named(holder), reason=reason, action=_ADVICE)
