"""Follows the node's labels by the API server, where the section asks for it, and has the
configuration read again when the one that counts has changed."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from deviceplugin.per_node.section import PerNodeSection
from deviceplugin.runtime.part import Once, Part, Sectioned
from deviceplugin.schema import section_of

if TYPE_CHECKING:  # HTTPS takes memory that only those pay who want it
    from deviceplugin.kubernetes.api import Access

LOOK_S = 30.0
log = structlog.get_logger()


class OfNode(Sectioned, Protocol):
    """A configuration that also has the node's name, where state is kept, and what was chosen."""

    @property
    def node_name(self) -> str:
        """The name."""

    @property
    def state_dir(self) -> Path:
        """The directory."""

    @property
    def chosen(self) -> str:
        """The named configuration and why, empty without any."""


class PerNodePart(Part[OfNode]):
    """Asks every `look_s` for the label; `changed` has the configuration read again."""

    def __init__(
        self,
        config: OfNode,
        changed: Callable[[], None],
        access: "Callable[[], Access] | None" = None,
    ) -> None:
        self._node, self._file_in = config.node_name, config.state_dir
        self._section = _section(config)
        self._changed, self._access = changed, access
        self._used = asyncio.Event()
        self._told = ""
        self._chosen = config.chosen
        self.look_s = LOOK_S

    def tasks(self) -> Mapping[str, Once]:
        """The looks at the node."""
        return {"node_labels": self._run}

    async def use(self, config: OfNode) -> None:
        """Follow as the configuration says from now on."""
        self._node, self._section = config.node_name, _section(config)
        if config.chosen != self._chosen:
            self._chosen = config.chosen
            self._tell()
        self._used.set()

    async def _run(self) -> None:
        self._tell()
        while True:
            if self._section.labels == "api":
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.look_s if self._section.labels == "api" else None):
                    await self._used.wait()
            self._used.clear()

    def _tell(self) -> None:
        if self._chosen:
            log.info("node_configuration", chosen=self._chosen)

    async def _look(self) -> None:
        """What cannot be asked stays as it was."""
        from deviceplugin.kubernetes.api import ApiError  # noqa: PLC0415  # where it is on
        from deviceplugin.per_node.follow import follow  # noqa: PLC0415

        try:
            news = await asyncio.to_thread(
                follow, self._node, self._section.label, self._file_in, self._access
            )
        except (ApiError, OSError) as error:
            if self._told != str(error):
                log.warning("node_labels_unknown", reason=str(error), instead="the last known ones")
            self._told = str(error)
            return
        self._told = ""
        if news:
            self._changed()


def _section(config: Sectioned) -> PerNodeSection:
    return section_of(config.sections, "per_node", PerNodeSection).in_force
