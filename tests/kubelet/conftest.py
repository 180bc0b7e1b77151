"""One resource served in this process to a kubelet stub."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Struct, field

from deviceplugin.errors import Refusal
from deviceplugin.kubelet.lifecycle import Endpoint
from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.kubelet.plugin import ResourcePlugin
from deviceplugin.kubelet.socket import KubeletSocket
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    ContainerEdits,
    Device,
    DeviceID,
    Health,
    Resource,
    ResourceName,
)
from deviceplugin.placement.prefer import prefer
from deviceplugin.resources.allocation import Request
from deviceplugin.resources.allocator import Allocator, Sources
from deviceplugin.resources.grants import Granted
from deviceplugin.testing.kubelet import KubeletStub

GPU = ResourceName("example.com/gpu")


def resource(*ids: str, unhealthy: str = "", numa: int | None = None) -> Resource:
    return Resource(
        name=GPU,
        vendor="example",
        devices=tuple(
            AdvertisedDevice(
                id=AdvertisedID(i),
                device=DeviceID(i),
                health=Health.UNHEALTHY if i == unhealthy else Health.HEALTHY,
                numa_node=numa,
            )
            for i in ids
        ),
    )


class Recorded(KubeletMetrics):
    """The metrics, which also keep what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[Refusal] = []
        self.lists = 0
        self.registrations: list[bool] = []

    def rpc(self, method: str, seconds: float) -> None:
        assert seconds >= 0, method

    def refused(self, resource: ResourceName, refusal: Refusal) -> None:
        assert resource == GPU
        self.refusals.append(refusal)

    def registered(self, resource: ResourceName, *, accepted: bool) -> None:
        assert resource == GPU
        self.registrations.append(accepted)

    def listed(self, resource: ResourceName) -> None:
        assert resource == GPU
        self.lists += 1


class Served(Struct):
    """A plugin and the endpoint that keeps it registered with `stub`."""

    stub: KubeletStub
    plugin: ResourcePlugin
    endpoint: Endpoint
    recorded: Recorded
    answer: "Answer"


class Answer(Struct):
    """What Allocate gives; `gate` holds it back, `error` is raised instead."""

    gate: asyncio.Event | None = None
    error: Exception | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Request, encode: Callable[[ContainerEdits], bytes]) -> bytes:
        devices = {
            entry.device: Device(id=entry.device, vendor="example")
            for entry in request.entries.values()
        }
        sources = Sources(devices=devices, granted=_no_shares, vendor_edits=self._edits)
        allocator = Allocator(lambda: sources, _reserving)
        return await allocator.allocate(request, encode)

    async def _edits(self, devices: Sequence[Device], _: Granted) -> ContainerEdits:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return ContainerEdits(env={"IDS": ",".join(device.id for device in devices)})


def _no_shares(*_: object) -> Granted:
    return Granted()


@asynccontextmanager
async def _reserving(*_: object) -> AsyncIterator[None]:
    yield


@pytest.fixture
async def stub(short_dir: Path) -> AsyncIterator[KubeletStub]:
    async with KubeletStub(short_dir) as kubelet:
        yield kubelet


@pytest.fixture(params=["gate", "direct"])
async def served(stub: KubeletStub, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Three devices, registered; behind a gate, or where there can be none."""
    recorded, answer = Recorded(), Answer()
    plugin = ResourcePlugin(resource("a", "b", "c"), answer, prefer, recorded)
    kubelet = KubeletSocket(stub.kubelet_socket)
    endpoint = Endpoint(plugin, kubelet, recorded, seed=1)
    endpoint.private = stub.kubelet_dir / "own" if request.param == "gate" else None
    tasks = [asyncio.create_task(kubelet.watch()), asyncio.create_task(endpoint.run())]
    await stub.wait_for(lambda: stub.allocatable().get(GPU) == 3, what="the first list")
    yield Served(stub, plugin, endpoint, recorded, answer)
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])
