"""A kubelet stub in a short directory, and plugins that end with the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.kubelet import KubeletStub
from tests.testing.rawplugin import GPU, Prefer, RawPlugin

Join = Callable[..., Awaitable[RawPlugin]]


@pytest.fixture
def kubelet_dir(short_dir: Path) -> Path:
    return short_dir


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def stub(kubelet_dir: Path, clock: FakeClock) -> AsyncIterator[KubeletStub]:
    async with KubeletStub(kubelet_dir, clock=clock) as kubelet:
        yield kubelet


@pytest.fixture
async def join(kubelet_dir: Path) -> AsyncIterator[Join]:
    """Make a plugin serve below a sub-directory and register it with the given stub."""
    plugins: list[RawPlugin] = []

    async def join_one(
        kubelet: KubeletStub,
        *devices: pluginapi.Device,
        socket: str = "x/gpu.sock",
        resource: str = GPU,
        preferring: Prefer | None = None,
    ) -> RawPlugin:
        plugin = RawPlugin(kubelet.socket_dir / socket, list(devices), resource)
        plugins.append(plugin)
        plugin.options.get_preferred_allocation_available = preferring is not None
        plugin.prefer = preferring or plugin.prefer
        await plugin.serve()
        seen = kubelet.messages(resource)
        await plugin.register(kubelet.kubelet_socket)
        await kubelet.wait_for(lambda: kubelet.messages(resource) > seen)
        return plugin

    yield join_one
    for plugin in plugins:
        await plugin.stop()
