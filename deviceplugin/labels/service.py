"""The labels of the node as a part of the daemon; nothing is loaded for them while they are off."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from deviceplugin.labels.section import LabelsSection
from deviceplugin.labels.sources import Sources
from deviceplugin.runtime.part import Once, Part, Sectioned
from deviceplugin.schema import section_of

if TYPE_CHECKING:  # HTTPS takes memory that only those pay who want it
    from deviceplugin.kubernetes.api import Access

ASKING = ("workloads", "cuda", "rocm")  # sections that ask about a node
LOOK_S = 10.0  # Node Feature Discovery itself looks every minute


class OfNode(Sectioned, Protocol):
    """A configuration that also has the node's name in Kubernetes."""

    @property
    def node_name(self) -> str:
        """The name."""


class _Follows(Struct, frozen=True):
    """What of a configuration is followed: the node's name, the section, and what others ask."""

    node: str
    section: LabelsSection
    asking: Mapping[str, object]


class LabelsPart(Part[OfNode]):
    """Keeps the node's labels true to its devices, in the way that the section asks for."""

    def __init__(
        self, config: OfNode, sources: Sources, access: "Callable[[], Access] | None" = None
    ) -> None:
        self._follows = _follows(config)
        self._sources, self._access = sources, access
        self._used = asyncio.Event()
        self.look_s = LOOK_S

    def tasks(self) -> Mapping[str, Once]:
        """The writes."""
        return {"labels": self._run}

    async def use(self, config: OfNode) -> None:
        """Label as the configuration asks for from now on."""
        self._follows = _follows(config)
        self._used.set()

    async def _run(self) -> None:
        while self._follows.section.apply == "off":
            await self._used.wait()
            self._used.clear()
        from deviceplugin.labels.follow import Follower, target_of  # noqa: PLC0415

        while True:
            now = self._follows
            target = target_of(now.section, now.node, self._access)
            follower = Follower(now.section, target, self._sources, now.asking)
            while self._follows == now:
                await follower.look()
                await self._next()
            following = target_of(self._follows.section, self._follows.node, self._access)
            await follower.end(clear=following != target)

    async def _next(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.look_s):
                await self._used.wait()
        self._used.clear()


def _follows(config: OfNode) -> _Follows:
    given = {name: config.sections[name] for name in ASKING if name in config.sections}
    asking = {name: one for name, one in given.items() if getattr(one, "version", True)}
    return _Follows(config.node_name, labels_section(config), asking)


def labels_section(config: Sectioned) -> LabelsSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(config.sections, "labels", LabelsSection)
