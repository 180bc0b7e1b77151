"""The order in which a GPU is tested: taken from pods, seen to be idle, tested, probed, given back.

Whatever happens in between, also an order to stop, ends with the GPU given back; what ends this
process ends the test, and the daemon gives the GPU back (`holds.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from deviceplugin.diagnose.active.values import Outcome, Wish
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device

Done = tuple[Wish, Outcome]


class RefusedError(DevicePluginError):
    """The GPU is not tested now, and why."""


class Desk(Protocol):
    """Who gives GPUs for tests: the daemon."""

    async def begin(self, device: Device) -> None:
        """Take the GPU from pods; raises RefusedError where that cannot be."""

    async def end(self, device: Device, keep: str) -> str:
        """Give it back, or keep it cordoned with `keep` as the reason; what went wrong."""


class Bench(Protocol):
    """Who tests a GPU that nobody has."""

    async def busy(self, device: Device) -> str:
        """Who uses the GPU, or that nobody can say; empty for nobody."""

    async def run(self, device: Device, wish: Wish) -> Outcome:
        """One test."""

    async def probe(self, device: Device) -> str:
        """What makes the GPU unfit for pods after its tests; empty where it is well."""


class Tested(Struct, frozen=True, kw_only=True):
    """What came of a GPU. `refused` says why it was not tested, `kept` why it stays cordoned,
    `problem` what went wrong when it was given back."""

    device: Device
    done: Sequence[Done] = ()
    refused: str = ""
    probed: str = ""
    kept: str = ""
    problem: str = ""


Keeping = Callable[[Device, Sequence[Done]], Awaitable[str]]


async def run_tests(
    desk: Desk, bench: Bench, device: Device, wishes: Sequence[Wish], keeping: Keeping
) -> Tested:
    """All tests of one GPU; `keeping` is given what was found and says why it stays cordoned."""
    try:
        await desk.begin(device)
    except RefusedError as error:
        return Tested(device=device, refused=str(error))
    done: list[Done] = []
    kept, probed, problem = "", "", ""
    try:
        if busy := await bench.busy(device):
            return Tested(device=device, refused=busy)
        for wish in wishes:
            done.append((wish, await bench.run(device, wish)))
        probed = await bench.probe(device)
        kept = await keeping(device, done)
    finally:
        problem = await _whole(desk.end(device, kept))
    return Tested(device=device, done=tuple(done), probed=probed, kept=kept, problem=problem)


async def _whole(ending: Awaitable[str]) -> str:
    """To its end, also where we are told to stop meanwhile."""
    task = asyncio.ensure_future(ending)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
