"""The health of a driver's devices as the kubelet watches it; pure but for the clock of a wait."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from deviceplugin.dra.slices import Offered
from deviceplugin.model import Inventory
from deviceplugin.pb import dra_health_v1alpha1_pb2 as healthapi
from deviceplugin.runtime.latest import Latest

AGAIN_S = 10.0  # the kubelet takes a device that is not told of for 30 s to be of unknown health
MAX_MESSAGE = 1024


async def health_lists(
    inventory: Latest[Inventory],
    offered: Callable[[], Sequence[Offered]],
    pool: str,
    now: Callable[[], float],
) -> AsyncIterator[healthapi.NodeWatchResourcesResponse]:
    """The complete list at once, after each change, and from time to time: for ever."""
    while True:
        seen = inventory.value
        yield health_list(offered(), pool, int(now()))
        try:
            async with asyncio.timeout(AGAIN_S):
                await inventory.next(seen)
        except TimeoutError:
            continue


def health_list(
    offered: Sequence[Offered], pool: str, now_s: int
) -> healthapi.NodeWatchResourcesResponse:
    """The health of each device as one message."""
    return healthapi.NodeWatchResourcesResponse(
        devices=[_health(one, pool, now_s) for one in offered]
    )


def _health(one: Offered, pool: str, now_s: int) -> healthapi.DeviceHealth:
    faults = [fault for fault in one.faults if fault.kind.withdraws]
    reason = "; ".join(f"{f.source}/{f.code}: {f.reason}" for f in faults)
    return healthapi.DeviceHealth(
        device=healthapi.DeviceIdentifier(pool_name=pool, device_name=one.name),
        health=healthapi.UNHEALTHY if faults else healthapi.HEALTHY,
        last_updated_time=now_s,
        message=reason[:MAX_MESSAGE],
    )
