"""A kubelet that never answers, closes half-way, talks nonsense or floods."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from deviceplugin.kubelet.limits import STREAMS
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from tests.faults.node import AMD, EACH, INTEL, MEMORY, Node
from tests.faults.recovery import Recovering
from tests.rig import WAIT_S, DaemonProcess

RESOURCES = 3
HTTP2_GARBAGE = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\xff" * 200


def never_read(peer: socket.socket, over: threading.Event) -> None:
    over.wait()


def close_at_once(peer: socket.socket, over: threading.Event) -> None:
    peer.close()


def half_close(peer: socket.socket, over: threading.Event) -> None:
    peer.shutdown(socket.SHUT_WR)
    over.wait()


def talk_nonsense(peer: socket.socket, over: threading.Event) -> None:
    peer.sendall(HTTP2_GARBAGE)
    over.wait()


STRANGE = {
    "never reads": never_read,
    "closes at once": close_at_once,
    "half-closes": half_close,
    "talks nonsense": talk_nonsense,
}


@contextmanager
def strange_peer(
    path: Path, behave: Callable[[socket.socket, threading.Event], None]
) -> Iterator[list[socket.socket]]:
    """Something listens on `path` and treats whoever connects like this; gives who connected."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    peers: list[socket.socket] = []
    over = threading.Event()

    def accept() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            peers.append(peer)
            threading.Thread(target=treat, args=(peer,), daemon=True).start()

    def treat(peer: socket.socket) -> None:
        with suppress(OSError):  # it may be gone before we are done
            behave(peer, over)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(64)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield peers
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for peer in peers:
                peer.close()


class Usage:
    """Descriptors and memory of a daemon, before and after."""

    def __init__(self, daemon: DaemonProcess, record: Callable[[str, object], None]) -> None:
        self._daemon, self._record = daemon, record
        self._process = psutil.Process(daemon.process.pid)
        self._before = Counter(map(kind_of, daemon.descriptors()))
        self._memory = self._process.memory_info().rss

    async def returns(self) -> None:
        """Wait until about as many descriptors are open as before; note how memory has grown.

        One more for each resource is the stub's: it holds what it had as the kubelet before.
        """
        await self._daemon.until(lambda: self._more().total() <= RESOURCES, what=self._more)
        grown = self._process.memory_info().rss - self._memory
        self._record("memory_grown_mib", round(grown / 2**20, 1))
        assert grown < 64 * 2**20

    def _more(self) -> Counter[str]:
        return Counter(map(kind_of, self._daemon.descriptors())) - self._before


def kind_of(descriptor: str) -> str:
    return descriptor.partition(":[")[0]


@asynccontextmanager
async def plugin(node: Node, resource: str) -> AsyncIterator[grpc.aio.Channel]:
    """A second client of the plugin's socket."""
    name = resource.replace("/", "_")
    path = node.rig.kubelet_dir / f"device-plugins/deviceplugin/{name}.sock"
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        yield channel


@pytest.mark.parametrize("how", STRANGE)
async def test_a_strange_kubelet_is_outlived(
    node: Node, how: str, recovering: Recovering, record_property: Callable[[str, object], None]
) -> None:
    daemon = await node.up()
    usage = Usage(daemon, record_property)
    await node.rig.stub.stop()
    with strange_peer(node.rig.stub.kubelet_socket, STRANGE[how]):
        for name in node.full:
            await daemon.wait_event("not_registered", resource=name)
        await daemon.answers("/healthz")
    await node.rig.stub.start()
    with recovering(f"kubelet that {how}"):
        await node.right()
    await usage.returns()
    await node.rig.one_of_each(node.full)


async def test_a_kubelet_that_never_answers_register_is_asked_again(
    node: Node, recovering: Recovering
) -> None:
    await node.rig.stub.start()
    node.rig.stub.register_knobs.hang.set()
    daemon = node.start()
    refused = await daemon.wait_event("not_registered", resource=AMD)
    assert "DEADLINE_EXCEEDED" in refused["reason"]
    node.rig.stub.register_knobs.hang.clear()
    with recovering("kubelet that never answered Register"):
        await node.right()
    assert node.rig.stub.violations == []


async def test_a_register_that_is_refused_fifty_times_is_tried_until_it_is_accepted(
    node: Node, recovering: Recovering
) -> None:
    refusals = node.rig.stub.register_knobs.refuse_next
    refusals += ["not now"] * 50
    await node.rig.stub.start()
    node.start()
    await node.rig.stub.wait_for(lambda: len(refusals) <= 40, 2 * WAIT_S)
    del refusals[2:]  # the rest of fifty would take minutes: it asks at most every 5 s by then
    with recovering("kubelet that refused Register ten times in a row"):
        await node.right()


async def test_floods_of_calls_and_streams_leave_one_registration_and_no_leak(
    node: Node, recovering: Recovering, record_property: Callable[[str, object], None]
) -> None:
    daemon = await node.up()
    device = node.ids()[AMD][0]
    usage, accepted = Usage(daemon, record_property), len(node.rig.stub.log.accepted)
    async with plugin(node, AMD) as channel:
        await allocate(channel, device)  # then the client knows how many streams it may have
        ended = await asyncio.gather(
            *(allocate(channel, device) for _ in range(300)),
            *(prefer(channel, device) for _ in range(300)),
            return_exceptions=True,
        )
        # Calls beyond the streams that a connection may have are refused where the client opens
        # them all the same.
        refused = [one for one in ended if isinstance(one, grpc.aio.AioRpcError)]
        assert {one.code() for one in refused} <= {grpc.StatusCode.UNAVAILABLE}
        answered = [one for one in ended if not isinstance(one, grpc.aio.AioRpcError)]
        assert set(answered) == {1}
        assert len(answered) >= STREAMS
        streams = [watch(channel) for _ in range(300)]
        first = await asyncio.gather(*(stream.read() for stream in streams[:STREAMS]))
        assert {len(message.devices) for message in first} == {2}
        await node.rig.one_of_each([INTEL])
        for stream in streams:
            stream.cancel()
    with recovering("flood of 600 calls and 300 streams"):
        await node.rig.stub.wait_for(lambda: len(node.rig.stub.log.accepted) > accepted, WAIT_S)
        await node.right()
        await node.rig.one_of_each(node.full)
    await usage.returns()
    assert node.rig.stub.violations == []


async def test_streams_that_are_never_read_hold_nobody_up(
    node: Node, recovering: Recovering, record_property: Callable[[str, object], None]
) -> None:
    daemon = await node.up()
    device = node.ids()[AMD][0]
    usage = Usage(daemon, record_property)
    path = node.rig.kubelet_dir / "device-plugins/deviceplugin/amd.com_gpu.sock"
    peers = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for peer in peers:
        peer.connect(str(path))
        with suppress(OSError):  # there is a place for some of them alone
            peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    for _ in range(20):
        assert await node.order("cordon", device) == ""
        await node.lists({**node.full, AMD: 1})
        assert await node.order("uncordon", device) == ""
        await node.lists(node.full)
    for peer in peers:
        peer.close()
    with recovering("200 connections that read nothing"):
        await node.right()
    await usage.returns()


@pytest.mark.parametrize("how", ["never reads", "talks nonsense"])
async def test_a_strange_pod_resources_socket_is_outlived(
    node: Node, how: str, recovering: Recovering, record_property: Callable[[str, object], None]
) -> None:
    node.offer_forms()
    daemon = await node.up()
    usage = Usage(daemon, record_property)
    await node.rig.stub.admit("pod", {"main": {AMD: 1}})
    used = {**node.full, MEMORY: node.full[MEMORY] - EACH}
    await node.lists(used)
    await node.rig.stub.stop_pod_resources()
    with strange_peer(node.rig.stub.pod_resources_socket, STRANGE[how]) as peers:
        await daemon.until(lambda: bool(peers))
        await daemon.wait_event("ledger_waits")
        assert node.rig.stub.allocatable() == used
        await node.rig.stub.admit("other", {"main": {AMD: 1}})
    calls = node.rig.stub.pod_resources.calls
    await node.rig.stub.start_pod_resources()
    with recovering(f"PodResources socket that {how}"):
        await daemon.until(lambda: node.rig.stub.pod_resources.calls > calls)
    await daemon.until(lambda: node.rig.stub.pod_resources.calls > calls + 2)
    used[MEMORY] -= EACH
    await node.lists(used)
    node.rig.stub.remove_pod("pod")
    node.rig.stub.remove_pod("other")
    await node.right()
    await usage.returns()


async def test_pod_resources_that_hang_or_are_too_large_change_nothing(
    node: Node, recovering: Recovering
) -> None:
    node.offer_forms()
    daemon = await node.up()
    knobs = node.rig.stub.pod_resources_knobs
    await node.rig.stub.admit("pod", {"main": {AMD: 1}})
    used = {**node.full, MEMORY: node.full[MEMORY] - EACH}
    await node.lists(used)
    knobs.delay_s = 3600.0
    await daemon.wait_event("ledger_waits")
    knobs.delay_s, knobs.exhausted = 0.0, True
    await daemon.until(lambda: len(daemon.events("ledger_waits")) > 1)
    assert node.rig.stub.allocatable() == used
    node.rig.stub.remove_pod("pod")
    knobs.exhausted = False
    with recovering("PodResources that hung, then was too large"):
        await node.right()


async def allocate(channel: grpc.aio.Channel, device: str) -> int:
    call = channel.unary_unary(
        "/v1beta1.DevicePlugin/Allocate",
        request_serializer=pluginapi.AllocateRequest.SerializeToString,
        response_deserializer=pluginapi.AllocateResponse.FromString,
    )
    request = pluginapi.ContainerAllocateRequest(devices_ids=[device])
    answer = await call(pluginapi.AllocateRequest(container_requests=[request]))
    return len(answer.container_responses)


async def prefer(channel: grpc.aio.Channel, device: str) -> int:
    call = channel.unary_unary(
        "/v1beta1.DevicePlugin/GetPreferredAllocation",
        request_serializer=pluginapi.PreferredAllocationRequest.SerializeToString,
        response_deserializer=pluginapi.PreferredAllocationResponse.FromString,
    )
    request = pluginapi.ContainerPreferredAllocationRequest(
        available_deviceIDs=[device], allocation_size=1
    )
    answer = await call(pluginapi.PreferredAllocationRequest(container_requests=[request]))
    return len(answer.container_responses)


def watch(channel: grpc.aio.Channel) -> Any:  # gRPC's stream call has no usable type
    return channel.unary_stream(
        "/v1beta1.DevicePlugin/ListAndWatch",
        request_serializer=pluginapi.Empty.SerializeToString,
        response_deserializer=pluginapi.ListAndWatchResponse.FromString,
    )(pluginapi.Empty())
