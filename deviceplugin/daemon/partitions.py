"""What declared partitions work with in the daemon, made where they are on."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from deviceplugin.config.layouts import read_layouts
from deviceplugin.daemon.core import Core
from deviceplugin.errors import ConfigError
from deviceplugin.kubernetes.api import InCluster
from deviceplugin.provision.node_labels import LABELS, NodeLabels
from deviceplugin.provision.protocol import FILE
from deviceplugin.provision.section import Layout, PartitioningSection
from deviceplugin.provision.standing import Standing
from deviceplugin.provision.wiring import Layouts, Wiring


def partitions_wiring(core: Core) -> Wiring:
    """For this daemon."""
    config = core.start.config
    sources = Sources(NodeLabels(InCluster(), config.node_name, time.monotonic))
    return Wiring(
        socket=config.state_dir / FILE,
        store=core.health.store,
        ledger=core.sharing.ledger,
        source=core.sharing.forms.source,
        changing=lambda vendor, released: core.generations.changing(vendor, released=released),
        sourced=sources.layouts,
        answered=sources.answer,
        monotonic=time.monotonic,
    )


class Sources:
    """The entry of a file that the configuration or a label of the node names."""

    def __init__(self, labels: NodeLabels) -> None:
        self._labels = labels
        self._answers: tuple[str, ...] = ()

    async def layouts(self, section: PartitioningSection) -> Layouts:
        """Those that hold now; what is wrong with the file is told, and nothing is undone by it."""
        self._answers = ()
        if section.file is None:
            return Layouts()
        name = section.layout
        if section.labels:
            named = {v: wish for v in LABELS if (wish := await self._labels.wish(v)) is not None}
            self._answers = tuple(named)
            found = [await self._of(section.file, wish, vendor) for vendor, wish in named.items()]
            if found:
                problems = [one.problem for one in found if one.problem]
                every = tuple(layout for one in found for layout in one.layouts)
                return Layouts(layouts=every, problem="; ".join(problems))
        return await self._of(section.file, name, None) if name is not None else Layouts()

    async def answer(self, standings: Sequence[Standing]) -> None:
        """Say on the node how it went."""
        for vendor in self._answers:
            own = [row for row in standings if row.vendor == vendor]
            await self._labels.answer(vendor, own)

    async def _of(self, file: str, name: str, vendor: str | None) -> Layouts:
        try:
            found = await asyncio.to_thread(partial(read_layouts, file, name))
        except ConfigError as error:
            return Layouts(problem=f"partitioning.file: {error}")
        return Layouts(layouts=tuple(one for one in found if _is_of(one, vendor)))


def _is_of(layout: Layout, vendor: str | None) -> bool:
    return vendor is None or layout.select.vendor in (None, vendor)
