"""Kubernetes' view of the node's health as a part of the daemon."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import structlog

from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubernetes import story
from deviceplugin.kubernetes.section import KubernetesSection
from deviceplugin.kubernetes.story import Cause, Held, Pod
from deviceplugin.model import Inventory, ResourceName
from deviceplugin.runtime.part import Once, Part, Sectioned
from deviceplugin.schema import section_of

if TYPE_CHECKING:  # HTTPS takes memory that only those pay who want it
    from deviceplugin.kubernetes.api import Access
    from deviceplugin.kubernetes.writer import Writer

log = structlog.get_logger()

SETTLE_S = 1.0  # what happens at once is written at once
LOOK_S = 10.0  # pods that hold a device are known a little later than its fault
AGAIN_S = 300.0  # a condition and a taint are written again: others may have removed them


Uses = tuple[Iterable[Held], Collection[ResourceName]]


class OfNode(Sectioned, Protocol):
    """A configuration that also has the node's name in Kubernetes."""

    @property
    def node_name(self) -> str:
        """The name."""


class KubernetesPart(Part[OfNode]):
    """Follows the inventory and writes what the section asks for; `uses` say who holds what, and
    which resources are listed, `notes` what else is told of pods, by Events alone."""

    def __init__(
        self,
        config: OfNode,
        store: InventoryStore,
        uses: Callable[[], Uses],
        access: "Callable[[], Access] | None" = None,
        notes: Callable[[], Iterable[Cause]] = tuple,
    ) -> None:
        self._node, self._section = config.node_name, kubernetes_section(config)
        self._used = asyncio.Event()
        self._store, self._uses, self._access = store, uses, access
        self._notes = notes
        self.settle_s, self.look_s = SETTLE_S, LOOK_S

    def tasks(self) -> Mapping[str, Once]:
        """The writes."""
        return {"kubernetes": self._run}

    async def use(self, config: OfNode) -> None:
        """Write what the configuration asks for from now on."""
        self._node, self._section = config.node_name, kubernetes_section(config)
        self._used.set()

    async def _run(self) -> None:
        while not _is_asked(self._section):
            await self._used.wait()
            self._used.clear()
        from deviceplugin.kubernetes.api import Api, ApiError, in_cluster  # noqa: PLC0415
        from deviceplugin.kubernetes.writer import Writer  # noqa: PLC0415

        try:
            access = (self._access or in_cluster)()
        except ApiError as error:
            log.warning("kubernetes_not_written", kind="all", reason=str(error))
            await asyncio.Future()
        else:
            while True:
                follower = Follower(Writer(Api(access), self._node), self._store.now)
                await self._follow(follower, self._node)

    async def _follow(self, follower: "Follower", node: str) -> None:
        """For as long as this is the node's name."""
        while self._node == node:
            seen = self._store.current
            found = story.causes(seen, *self._uses())
            await follower.write(self._section, seen, found, tuple(self._notes()))
            await self._next(seen)

    async def _next(self, seen: object) -> None:
        """Wait until something has changed and settled, LOOK_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.look_s):
                while self._store.current is seen:
                    await self._store.latest.next(self._store.current)
        await asyncio.sleep(self.settle_s)


class Follower:
    """What has been written, and so what is to be written next."""

    def __init__(self, writer: "Writer", now: Callable[[], float]) -> None:
        self._writer, self._now = writer, now
        self._shown: dict[tuple[Pod | None, str], Cause] = {}
        self._condition: tuple[bool, str, float] | None = None
        self._since: tuple[bool, float] | None = None
        self._taint: tuple[bool, float] | None = None

    async def write(
        self,
        section: KubernetesSection,
        inventory: Inventory,
        found: tuple[Cause, ...],
        notes: tuple[Cause, ...] = (),
    ) -> None:
        """Bring the API server up to date."""
        if section.events:
            await self._events((*found, *notes))
        if section.condition:
            await self._put_condition(found)
        elif self._condition is not None and await self._writer.condition(None):
            self._condition = None
        wanted = story.is_tainted(inventory, section.taint, found)
        if section.taint != "never" or self._taint is not None:
            await self._put_taint(wanted=wanted)

    async def _events(self, found: tuple[Cause, ...]) -> None:
        now = self._now()
        standing = {(pod, c.key): c for c in found for pod in (None, *c.pods)}
        shown = {at: cause for at, cause in standing.items() if at in self._shown}
        for at in [at for at in standing if at not in shown]:
            if not await self._writer.event(at[0], standing[at], well=False, now=now):
                break  # the others would wait for the same: in the next round
            shown[at] = standing[at]
        over = [c for at, c in self._shown.items() if at not in standing and at[0] is None]
        for cause in over:
            await self._writer.event(None, cause, well=True, now=now)
        self._shown = shown

    async def _put_condition(self, found: tuple[Cause, ...]) -> None:
        now, ill = self._now(), bool(found)
        if self._since is None or self._since[0] != ill:
            began = min((c.since for c in found if c.since is not None), default=now)
            self._since = (ill, began)
        condition = story.condition(found, now, self._since[1])
        state = (ill, str(condition["message"]))
        if self._condition and self._condition[:2] == state and now < self._condition[2] + AGAIN_S:
            return
        if await self._writer.condition(condition):
            self._condition = (*state, now)

    async def _put_taint(self, *, wanted: bool) -> None:
        now = self._now()
        if self._taint and self._taint[0] == wanted and now < self._taint[1] + AGAIN_S:
            return
        if await self._writer.taint(wanted=wanted):
            self._taint = (wanted, now)


def _is_asked(section: KubernetesSection) -> bool:
    return section.events or section.condition or section.taint != "never"


def kubernetes_section(config: Sectioned) -> KubernetesSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(config.sections, "kubernetes", KubernetesSection)
