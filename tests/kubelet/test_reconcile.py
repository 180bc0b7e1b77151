"""Resources that come, go, and come back while they go."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deviceplugin.kubelet.lifecycle import Endpoint
from deviceplugin.kubelet.plugin import ResourcePlugin
from deviceplugin.kubelet.reconcile import Endpoints
from deviceplugin.kubelet.socket import KubeletSocket
from deviceplugin.model import Resource
from deviceplugin.placement.prefer import prefer
from deviceplugin.resources.plan import Resources
from deviceplugin.runtime.keep import keep
from deviceplugin.runtime.latest import Latest
from deviceplugin.testing.kubelet import KubeletStub
from tests.kubelet.conftest import GPU, Answer, Recorded, resource
from tests.rig import WAIT_S


class Following:
    """Endpoints that follow `resources`; `failed` has the endpoints that could not be served."""

    def __init__(self, stub: KubeletStub) -> None:
        self.resources: Latest[Resources] = Latest({GPU: resource("a")})
        self.failed: list[str] = []
        self.kubelet = KubeletSocket(stub.kubelet_socket)
        self.endpoints = Endpoints(self.make, self.run)

    def make(self, wanted: Resource) -> Endpoint:
        plugin = ResourcePlugin(wanted, Answer(), prefer, Recorded())
        return Endpoint(plugin, self.kubelet, Recorded(), seed=1)

    def run(self, endpoint: Endpoint) -> "asyncio.Task[None]":
        serving = keep(endpoint.plugin.name, endpoint.run, WAIT_S, self.failed.append)
        return asyncio.create_task(serving)


@pytest.fixture
async def following(stub: KubeletStub) -> AsyncIterator[Following]:
    following = Following(stub)
    tasks = [
        asyncio.create_task(following.kubelet.watch()),
        asyncio.create_task(following.endpoints.follow(following.resources)),
    ]
    await stub.wait_for(lambda: stub.allocatable() == {GPU: 1})
    yield following
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])


async def lists(stub: KubeletStub, count: int) -> None:
    await stub.wait_for(lambda: stub.allocatable() == {GPU: count})


async def test_a_resource_that_comes_back_while_it_goes_is_served_when_it_has_gone(
    stub: KubeletStub, following: Following
) -> None:
    for count in (2, 3):
        following.resources.set({})
        await stub.wait_for(lambda: stub.capacity() == {GPU: 0})  # its socket is still there
        following.resources.set({GPU: resource(*"abc"[:count])})
        await asyncio.sleep(0)
        assert list(following.endpoints.problems()) == [GPU]
        await lists(stub, count)
    assert following.failed == []
    assert stub.live_streams(GPU) == 1


async def test_a_resource_that_goes_while_it_comes_back_stays_away(
    stub: KubeletStub, following: Following
) -> None:
    for wanted in ({}, {GPU: resource("a")}, {}):
        following.resources.set(wanted)
        await asyncio.sleep(0)
    await stub.wait_for(lambda: stub.live_streams(GPU) == 0)
    assert stub.capacity() == {GPU: 0}
    assert list(following.endpoints.problems()) == []
    assert len(stub.registrations) == 1
