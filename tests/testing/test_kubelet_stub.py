"""The kubelet stub behaves as facts about the real device manager say."""

import asyncio
import contextlib
import gc
import socket as sockets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.runtime.inotify import Inotify, Mask
from deviceplugin.testing.happenings import Asked, Ended, Listed, Opened, Refused
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.names import is_extended_resource_name
from tests.rig import WAIT_S
from tests.testing.conftest import FakeClock, Join
from tests.testing.rawplugin import GPU, Context, RawPlugin, device, register

NIC = "example.com/nic"


def connects(path: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, so that what it would close for us stays open."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# Registration


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("example.com/gpu", True),
        ("example.com/Gpu_1.x-y", True),
        ("a" * 63 + "/gpu", True),
        ("gpu", False),
        ("x.kubernetes.io/gpu", False),
        ("requests.example.com/gpu", False),
        ("EXAMPLE.com/gpu", False),
        ("a." * 122 + "b/gpu", False),
        ("a." * 121 + "bb/gpu", True),
        ("example.com/" + "g" * 64, False),
        ("example.com/" + "g" * 63, True),
        ("example.com/-gpu", False),
        ("example.com/gpu\n", False),
        ("example.com/a/b", False),
    ],
)
def test_resource_names_follow_the_rules_of_extended_resources(name: str, accepted: bool) -> None:
    assert is_extended_resource_name(name) is accepted


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": "v1alpha1"}, "unsupported version"),
        ({"resource_name": "gpu"}, 'the ResourceName "gpu" is invalid'),
    ],
    ids=["version", "name"],
)
async def test_a_bad_register_request_fails_as_unknown_with_text(
    stub: KubeletStub, kubelet_dir: Path, change: dict[str, Any], text: str
) -> None:
    plugin = RawPlugin(stub.socket_dir / "x.sock", [])
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await plugin.register(stub.kubelet_socket, **change)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert stub.registrations == []


async def test_registering_before_serving_fails_after_the_dial_timeout(stub: KubeletStub) -> None:
    stub.register_knobs.dial_timeout_s = 0.2
    plugin = RawPlugin(stub.socket_dir / "nobody.sock", [])
    text = "failed to dial device plugin: context deadline exceeded"
    with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
        await plugin.register(stub.kubelet_socket)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("prefix", ["", "/", "../device-plugins/"], ids=["rel", "abs", "dots"])
async def test_an_endpoint_is_always_joined_to_the_socket_directory(
    stub: KubeletStub, join: Join, prefix: str
) -> None:
    plugin = await join(stub, device("a"))
    await plugin.register(stub.kubelet_socket, endpoint=f"{prefix}x/gpu.sock")
    assert len(stub.registrations) == 2


async def test_the_answer_of_get_options_counts_and_not_the_register_request(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    plugin.options = pluginapi.DevicePluginOptions(pre_start_required=True)
    announced = pluginapi.DevicePluginOptions(get_preferred_allocation_available=True)
    request = pluginapi.RegisterRequest(
        version="v1beta1", endpoint="x/gpu.sock", resource_name=GPU, options=announced
    )
    await register(stub.kubelet_socket, request)
    assert stub.registrations[-1].options.pre_start_required
    assert (await stub.options(GPU)).pre_start_required


async def test_get_options_is_asked_within_registers_own_deadline(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    plugin.options_gate = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError):
        await plugin.register(stub.kubelet_socket, timeout_s=3)  # time enough to be asked
    await asyncio.wait_for(plugin.options_cancelled.wait(), WAIT_S)
    assert len(stub.registrations) == 1


async def test_an_error_of_get_options_fails_register(stub: KubeletStub, kubelet_dir: Path) -> None:
    class Mute(RawPlugin):
        async def GetDevicePluginOptions(
            self, request: pluginapi.Empty, context: Context
        ) -> pluginapi.DevicePluginOptions:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")

    plugin = await Mute(stub.socket_dir / "x.sock", []).serve()
    with pytest.raises(grpc.aio.AioRpcError, match="code = Unavailable desc = not yet"):
        await plugin.register(stub.kubelet_socket)
    await plugin.stop()


async def test_nothing_is_advertised_before_the_first_list(stub: KubeletStub, join: Join) -> None:
    assert stub.capacity() == {}
    await join(stub)
    assert stub.capacity() == {GPU: 0}


async def test_a_refused_register_succeeds_when_tried_again(stub: KubeletStub, join: Join) -> None:
    stub.register_knobs.refuse_next.append("not today")
    plugin = RawPlugin(stub.socket_dir / "x.sock", [])
    with pytest.raises(grpc.aio.AioRpcError, match="not today"):
        await plugin.register(stub.kubelet_socket)
    await join(stub, device("a"))
    assert stub.log.calls[GPU] == 2


async def test_a_hanging_register_ends_with_the_callers_deadline(stub: KubeletStub) -> None:
    stub.register_knobs.hang.set()
    plugin = RawPlugin(stub.socket_dir / "x.sock", [])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.register(stub.kubelet_socket, timeout_s=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


# Life cycle


async def test_a_stopped_kubelet_cancels_streams_and_leaves_a_stale_socket(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    inode = stub.kubelet_socket.stat().st_ino
    await stub.stop()
    await asyncio.wait_for(plugin.cancelled.wait(), WAIT_S)
    assert stub.kubelet_socket.stat().st_ino == inode
    assert stub.kubelet_socket.is_socket()
    assert not connects(stub.kubelet_socket)
    assert stub.live_streams(GPU) == 0


async def test_nobody_listens_when_a_plugin_sees_its_stream_cancelled_by_a_stop(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    listening: list[bool] = []
    plugin.on_cancel = lambda: listening.append(connects(stub.kubelet_socket))
    await stub.stop()
    await asyncio.wait_for(plugin.cancelled.wait(), WAIT_S)
    assert listening == [False]


async def test_a_restart_wipes_top_level_sockets_only(stub: KubeletStub, join: Join) -> None:
    await join(stub, device("a"), socket="top.sock")
    await join(stub, device("b"), socket="x/sub.sock", resource=NIC)
    (stub.socket_dir / "file").touch()
    await stub.restart()
    left = sorted(str(path.relative_to(stub.socket_dir)) for path in stub.socket_dir.rglob("*"))
    assert left == ["file", "kubelet.sock", "x", "x/sub.sock"]
    assert connects(stub.kubelet_socket)
    assert stub.generation == 2


async def test_a_directory_wipe_removes_sub_directories_too(stub: KubeletStub, join: Join) -> None:
    await join(stub, device("a"))
    await stub.restart(wipe="directory")
    assert [path.name for path in stub.socket_dir.iterdir()] == ["kubelet.sock"]


async def test_after_a_restart_resources_are_known_and_empty_until_registered(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    await stub.restart()
    assert stub.capacity() == {GPU: 0}
    with pytest.raises(Exception, match="no healthy devices present"):
        await stub.admit("p", {"c": {GPU: 1}})
    await plugin.register(stub.kubelet_socket)
    await stub.wait_registered(GPU)
    assert stub.capacity() == {GPU: 1}
    assert stub.registrations[-1].generation == 2


async def test_many_restarts_leave_no_open_files_behind(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, device("a"))

    async def restart_and_register() -> None:
        await stub.restart()
        await plugin.register(stub.kubelet_socket)
        await stub.wait_registered(GPU)

    await restart_and_register()
    before = psutil.Process().num_fds()
    with uncollected():
        for _ in range(20):
            await restart_and_register()
        async with asyncio.timeout(WAIT_S):  # gRPC closes in its own time
            while psutil.Process().num_fds() >= before + 20:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.05)
    assert stub.live_streams(GPU) == 1


async def test_too_long_a_socket_path_is_refused(kubelet_dir: Path) -> None:
    with pytest.raises(ValueError, match="over 107 bytes"):
        await KubeletStub(kubelet_dir / ("d" * 100)).start()


async def test_kubelet_sock_appears_once_per_start_and_nothing_happens_at_a_stop(
    stub: KubeletStub,
) -> None:
    with Inotify() as watcher:
        moved = Mask.MOVED_FROM | Mask.MOVED_TO
        watcher.add_watch(stub.socket_dir, Mask.CREATE | Mask.DELETE | moved)
        await stub.stop()
        await stub.start()
        events = await watcher.events()
        assert [event.mask for event in events] == [Mask.DELETE, Mask.CREATE]
        assert connects(stub.kubelet_socket)
        assert stub.started_at_s is not None


async def test_nothing_but_the_two_sockets_is_left_in_the_kubelet_directory(
    stub: KubeletStub, kubelet_dir: Path
) -> None:
    await stub.restart()
    await stub.stop()
    left = sorted(str(path.relative_to(kubelet_dir)) for path in kubelet_dir.rglob("*.*"))
    assert left == ["device-plugins/kubelet.sock", "pod-resources/kubelet.sock"]


# Stream end and grace period


async def test_a_stream_end_keeps_capacity_for_the_grace_period_only(
    stub: KubeletStub, join: Join, clock: FakeClock
) -> None:
    plugin = await join(stub, device("a"), device("b", "Unhealthy"))
    assert (stub.capacity(), stub.allocatable()) == ({GPU: 2}, {GPU: 1})
    plugin.end_stream()
    await stub.wait_for(lambda: stub.allocatable() == {GPU: 0})
    clock.now_s += 300
    assert stub.capacity() == {GPU: 2}
    clock.now_s += 0.1
    assert stub.capacity() == {GPU: 0}


async def test_waiting_for_the_end_of_the_grace_period_needs_no_polling(
    kubelet_dir: Path, join: Join
) -> None:
    async with KubeletStub(kubelet_dir, grace_s=0.1) as stub:
        plugin = await join(stub, device("a"))
        plugin.end_stream()
        await stub.wait_for(lambda: stub.capacity() == {GPU: 0})


async def test_a_new_registration_restores_devices_at_once(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, device("a"))
    plugin.end_stream()
    await stub.wait_for(lambda: stub.allocatable() == {GPU: 0})
    await plugin.register(stub.kubelet_socket)
    await stub.wait_for(lambda: stub.allocatable() == {GPU: 1})


async def test_the_kubelet_never_dials_again_after_a_stream_end(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    plugin.end_stream()
    await stub.wait_for(lambda: stub.live_streams(GPU) == 0)
    assert stub.log.calls[GPU] == 1
    with pytest.raises(Exception, match="has been stopped"):
        await stub.allocate(GPU, ["a"])


async def test_the_end_of_an_old_stream_disconnects_the_new_client(
    stub: KubeletStub, join: Join
) -> None:
    old = await join(stub, device("a"), socket="x/old.sock")
    new = await join(stub, device("a"), socket="x/new.sock")
    assert stub.live_streams(GPU) == 2
    await old.stop()
    await asyncio.wait_for(new.cancelled.wait(), WAIT_S)
    await stub.wait_for(lambda: stub.live_streams(GPU) == 0)
    assert stub.allocatable() == {GPU: 0}


async def test_lists_of_both_streams_are_applied_and_the_last_wins(
    stub: KubeletStub, join: Join
) -> None:
    old = await join(stub, device("a"), socket="x/old.sock")
    await join(stub, device("b"), device("c"), socket="x/new.sock")
    assert stub.capacity() == {GPU: 2}
    old.resend(device("a"))
    await stub.wait_for(lambda: stub.messages(GPU) == 3)
    assert list(stub.devices(GPU)) == ["a"]


async def test_a_failed_connect_makes_the_end_of_an_older_stream_go_unnoticed(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    stub.register_knobs.dial_timeout_s = 0.1
    with pytest.raises(grpc.aio.AioRpcError, match="failed to dial"):
        await plugin.register(stub.kubelet_socket, endpoint="nobody.sock")
    plugin.end_stream()
    await stub.wait_for(lambda: stub.live_streams(GPU) == 0)
    assert stub.allocatable() == {GPU: 1}


async def test_a_list_over_4_mib_drops_the_stream(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, device("a"))
    plugin.resend(*(device(f"{index:063d}") for index in range(60_000)))
    await stub.wait_for(lambda: stub.live_streams(GPU) == 0)
    assert "ResourceExhausted" in stub.log.stream_ends[-1][1]
    assert stub.allocatable() == {GPU: 0}


async def test_a_stub_that_drops_a_connection_cancels_the_plugins_stream(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, device("a"))
    await stub.disconnect(GPU)
    await asyncio.wait_for(plugin.cancelled.wait(), WAIT_S)


async def test_faults_of_a_list_are_recorded(stub: KubeletStub, join: Join) -> None:
    await join(
        stub,
        device("a"),
        device("a", "Unhealthy"),
        device("b", nodes=()),
        device("c", "healthy", nodes=(-1,)),
    )
    assert stub.violations == [
        f"{GPU}: duplicate ids ['a']",
        f"{GPU}: empty TopologyInfo on ['b']",
        f"{GPU}: negative NUMA node on ['c']",
        f"{GPU}: unknown health words ['healthy']",
        f"{GPU}: some devices with topology, some without",
    ]
    assert stub.capacity() == {GPU: 4}, "the duplicate counts twice"


# What listeners are told


async def test_listeners_are_told_of_registers_streams_and_lists(
    stub: KubeletStub, join: Join
) -> None:
    told: list[Any] = []  # happenings of several kinds, in this order
    stub.log.listeners.append(told.append)
    stub.register_knobs.refuse_next.append("not today")
    plugin = RawPlugin(stub.socket_dir / "x.sock", [])
    asked_s = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError, match="not today"):
        await plugin.register(stub.kubelet_socket)
    took_s = time.monotonic() - asked_s
    plugin = await join(stub, device("a"))
    plugin.end_stream()
    await stub.wait_for(lambda: isinstance(told[-1], Ended))
    kinds = [Asked, Refused, Asked, Opened, Listed, Ended]
    assert [type(happening) for happening in told] == kinds
    # gRPC rounds the deadline up to tenths on the wire
    assert 12 - took_s <= told[0].remaining_s < 12.2
    assert str(told[1].error) == "not today"
    assert told[3].live == 1
    assert [listed.ID for listed in told[4].message.devices] == ["a"]
    assert told[5].reason == "ended by the plugin"
