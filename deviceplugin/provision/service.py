"""Declared partitions as a part of the daemon; off, it imports nothing and asks nobody."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deviceplugin.provision.seat import Seat
from deviceplugin.provision.section import wanted_of
from deviceplugin.runtime.part import Collector, Once, Operation, Part, Reply, Sectioned
from deviceplugin.schema import Section

if TYPE_CHECKING:  # for those who want it
    from deviceplugin.metrics.registry import Family
    from deviceplugin.provision.follow import Follower
    from deviceplugin.provision.wiring import Wiring


class PartitionsRequest(Section, frozen=True):
    """`operation` is partitions."""

    operation: str


class PartitionsPart(Part[Sectioned]):
    """Has the privileged process cut GPUs as the configuration says. `wiring` is made when it is
    wanted, and claims find at `seat` what makes partitions for them.

    It stands before the part that serves the kubelet: what a change that was cut off may take is
    kept back before anything is given.
    """

    def __init__(self, config: Sectioned, wiring: "Callable[[], Wiring]", seat: Seat) -> None:
        self._wanted, self._wiring, self._seat = wanted_of(config.sections), wiring, seat
        self._used = asyncio.Event()
        self._follower: Follower | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Where partitions are declared, the GPU of a change that runs or was cut off is kept."""
        if not self._wanted.is_off:
            await self._follow().keep_begun()
        yield

    def tasks(self) -> Mapping[str, Once]:
        """What makes the layouts true."""
        return {"partitions": self._run}

    async def use(self, config: Sectioned) -> None:
        """Partition as `config` says from now on; what is cut stays cut."""
        self._wanted = wanted_of(config.sections)
        if self._follower is not None:
            self._follower.use(self._wanted)
        self._used.set()

    def collectors(self) -> Mapping[str, Collector]:
        """How GPUs stand to their layouts; none where that is off."""
        return {"partitions": self}

    def collect(self) -> "Iterable[Family]":
        """The series."""
        return () if self._follower is None else self._follower.families()

    def operations(self) -> Mapping[str, Operation]:
        """What an operator may ask."""
        return {"partitions": Operation(PartitionsRequest, self._told)}

    @property
    def notice(self) -> str:
        """What waits or was refused, one line each."""
        return "" if self._follower is None else "\n".join(self._follower.notices())

    async def _told(self, _: PartitionsRequest) -> Reply:
        return {"on": False, "gpus": []} if self._follower is None else self._follower.document()

    async def _run(self) -> None:
        while self._wanted.is_off:
            await self._used.wait()
            self._used.clear()
        await self._follow().run()

    def _follow(self) -> "Follower":
        if self._follower is None:
            from deviceplugin.provision.follow import Follower  # noqa: PLC0415  # where it is on

            self._follower = Follower(self._wiring(), self._wanted)
            self._seat.take(self._follower.on_demand)
        return self._follower
