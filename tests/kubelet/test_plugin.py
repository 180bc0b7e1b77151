"""The DevicePlugin service of one resource, over a real socket."""

import asyncio
from collections.abc import Sequence
from typing import cast

import grpc
import grpc.aio
import pytest

from deviceplugin.errors import AllocationError, CallTimeoutError, Refusal, VendorError
from deviceplugin.kubelet.plugin import BURST_S, MAX_MESSAGES, Context, ResourcePlugin
from deviceplugin.kubelet.wire import container_response, encoded_list
from deviceplugin.model import (
    AdvertisedID,
    ContainerEdits,
    DeviceNode,
    Health,
    Mount,
    Resource,
)
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.placement.prefer import prefer
from deviceplugin.resources.large import LargeQuestion
from deviceplugin.testing.plugin_client import PluginClient, RpcError
from tests.kubelet.conftest import GPU, Answer, Recorded, Served, resource

Stream = grpc.aio.UnaryStreamCall[pluginapi.Empty, pluginapi.ListAndWatchResponse]


async def read(stream: Stream) -> pluginapi.ListAndWatchResponse:
    """The next message of a stream that goes on."""
    message = await stream.read()
    assert isinstance(message, pluginapi.ListAndWatchResponse)
    return message


async def open_stream(served: Served) -> tuple[grpc.aio.Channel, Stream]:
    """Another ListAndWatch stream beside the kubelet's."""
    path = served.stub.socket_dir / "deviceplugin" / "example.com_gpu.sock"
    channel = grpc.aio.insecure_channel(f"unix:{path}")
    call = channel.unary_stream(
        "/v1beta1.DevicePlugin/ListAndWatch",
        request_serializer=pluginapi.Empty.SerializeToString,
        response_deserializer=pluginapi.ListAndWatchResponse.FromString,
    )(pluginapi.Empty())
    return channel, call


def ids_of(answer: pluginapi.AllocateResponse) -> str:
    """What the only container got."""
    (container,) = answer.container_responses
    return str(container.envs["IDS"])


async def test_options_are_the_same_in_both_places(served: Served) -> None:
    assert (await served.stub.options(GPU)) == served.stub.registrations[0].options
    assert served.stub.registrations[0].options.get_preferred_allocation_available
    assert not served.stub.registrations[0].options.pre_start_required


async def test_the_first_message_is_the_complete_list(served: Served) -> None:
    assert served.stub.messages(GPU) == 1
    assert sorted(served.stub.devices(GPU)) == ["a", "b", "c"]


async def test_equal_content_is_not_sent_again(served: Served) -> None:
    served.plugin.show(resource("a", "b", "c"))
    served.plugin.show(resource("a", "b", "c", unhealthy="b"))
    await served.stub.wait_for(lambda: served.stub.allocatable()[GPU] == 2)
    assert served.stub.messages(GPU) == 2


async def test_a_quiet_time_sends_nothing() -> None:
    plugin = ResourcePlugin(resource("a", "b"), Answer(), prefer, Recorded())
    stream = aiter(plugin._list_and_watch(None, cast("Context", None)))
    await anext(stream)
    second = asyncio.ensure_future(anext(stream))
    await asyncio.wait({second}, timeout=5 * BURST_S)
    assert not second.done()
    plugin.show(resource("a", "b", unhealthy="a"))
    assert await second == encoded_list(resource("a", "b", unhealthy="a")).message


async def test_a_stream_that_was_lost_once_is_not_lost_for_ever() -> None:
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    plugin.lost.set()
    await plugin.end_streams()
    assert not plugin.lost.is_set()


async def test_a_burst_of_changes_is_few_messages_and_ends_with_the_newest(served: Served) -> None:
    started_s = asyncio.get_running_loop().time()
    for number in range(1000):
        served.plugin.show(resource("a", "b", "c", unhealthy="ab"[number % 2]))
        await asyncio.sleep(0)
    served.plugin.show(resource("a", "b"))
    await served.stub.wait_for(lambda: served.stub.capacity()[GPU] == 2)
    pauses = (asyncio.get_running_loop().time() - started_s) / BURST_S
    assert served.stub.messages(GPU) <= 3 + pauses  # the one before the burst, its first, its last


async def test_every_stream_gets_every_change(served: Served) -> None:
    opened = [await open_stream(served) for _ in range(5)]
    for _, call in opened:
        assert len((await read(call)).devices) == 3
    served.plugin.show(resource("a", "b"))
    for _, call in opened:
        assert len((await read(call)).devices) == 2
    await served.stub.wait_for(lambda: served.stub.capacity()[GPU] == 2)
    for channel, _ in opened:
        await channel.close(None)
    await served.plugin.streams.until(lambda count: count <= 1)


async def test_preferences_hold_what_must_be_in_and_tolerate_unknown_ids(served: Served) -> None:
    assert await served.stub.prefer(GPU, ["c", "b", "a"], ["c"], 2) == frozenset({"a", "c"})
    assert await served.stub.prefer(GPU, ["q", "a"], [], 1) == frozenset({"a"})
    assert await served.stub.prefer(GPU, ["q"], [], 1) == frozenset({"q"})
    assert await served.stub.prefer(GPU, ["a", "b"], [], 5) == frozenset({"a", "b"})
    assert await served.stub.prefer(GPU, ["a"], [], 0) == frozenset()


@pytest.mark.parametrize(
    ("ids", "code", "refusal"),
    [
        ([], "INVALID_ARGUMENT", Refusal.EMPTY),
        (["a", "a"], "INVALID_ARGUMENT", Refusal.DUPLICATE),
        (["zz"], "INVALID_ARGUMENT", Refusal.UNKNOWN),
        (["a", "b"], "FAILED_PRECONDITION", Refusal.UNHEALTHY),
    ],
    ids=["empty", "duplicate", "unknown", "unhealthy"],
)
async def test_a_bad_allocation_is_refused_and_changes_nothing(
    served: Served, ids: list[str], code: str, refusal: Refusal
) -> None:
    served.plugin.show(resource("a", "b", "c", unhealthy="b"))
    with pytest.raises(RpcError) as caught:
        await served.stub.allocate(GPU, ids)
    assert caught.value.code.name == code
    assert GPU in caught.value.detail
    assert served.recorded.refusals == [refusal]
    assert ids_of(await served.stub.allocate(GPU, ["a"])) == "a"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AllocationError(Refusal.UNLIMITED, "no limit"), "FAILED_PRECONDITION"),
        (AllocationError(Refusal.MISSING_NODE, "/dev/x does not exist"), "FAILED_PRECONDITION"),
        (CallTimeoutError("no answer within 5 s"), "DEADLINE_EXCEEDED"),
        (VendorError("the vendor broke"), "INTERNAL"),
    ],
    ids=["limit", "node", "deadline", "vendor"],
)
async def test_a_failing_vendor_becomes_a_status_with_its_words(
    served: Served, error: Exception, code: str
) -> None:
    served.answer.error = error
    with pytest.raises(RpcError) as caught:
        await served.stub.allocate(GPU, ["a"])
    assert caught.value.code.name == code
    assert str(error) in caught.value.detail


async def test_allocate_is_idempotent_per_id(served: Served) -> None:
    first = await served.stub.allocate(GPU, ["b", "a"])
    assert first == await served.stub.allocate(GPU, ["a", "b"])
    assert ids_of(first) == "a,b"


async def test_every_container_request_has_its_own_answer_in_order(served: Served) -> None:
    channel, _ = await open_stream(served)
    allocate = channel.unary_unary(
        "/v1beta1.DevicePlugin/Allocate",
        request_serializer=pluginapi.AllocateRequest.SerializeToString,
        response_deserializer=pluginapi.AllocateResponse.FromString,
    )
    request = pluginapi.AllocateRequest()
    for device_id in "ba":
        request.container_requests.add(devices_ids=[device_id])
    answer = await allocate(request)
    assert [c.envs["IDS"] for c in answer.container_responses] == ["b", "a"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await allocate(pluginapi.AllocateRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await channel.close(None)


def test_topology_is_sent_for_all_devices_or_for_none() -> None:
    known = pluginapi.ListAndWatchResponse.FromString(
        encoded_list(resource("a", "b", numa=1)).message
    )
    assert [[n.ID for n in d.topology.nodes] for d in known.devices] == [[1], [1]]
    mixed = resource("a", numa=0).devices + resource("b").devices
    sent = pluginapi.ListAndWatchResponse.FromString(
        encoded_list(type(resource())(name=GPU, vendor="example", devices=mixed)).message
    )
    assert [d.HasField("topology") for d in sent.devices] == [False, False]
    assert {d.health for d in sent.devices} == {Health.HEALTHY.value}


def test_an_answer_has_every_part_of_the_edits() -> None:
    answer = container_response(
        ContainerEdits(
            env={"A": "1"},
            device_nodes=(DeviceNode(path="/dev/x", host_path="/root/dev/x"),),
            mounts=(Mount(path="/m", host_path="/host/m"),),
            annotations={"k": "v"},
            cdi_devices=("vendor.com/class=x",),
        )
    )
    assert dict(answer.envs) == {"A": "1"}
    assert [(d.container_path, d.host_path, d.permissions) for d in answer.devices] == [
        ("/dev/x", "/root/dev/x", "rw")
    ]
    assert [(m.container_path, m.host_path, m.read_only) for m in answer.mounts] == [
        ("/m", "/host/m", True)
    ]
    assert dict(answer.annotations) == {"k": "v"}
    assert [c.name for c in answer.cdi_devices] == ["vendor.com/class=x"]


async def test_kept_edits_are_encoded_once_and_other_edits_again() -> None:
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    one, other = ContainerEdits(env={"A": "1"}), ContainerEdits(env={"A": "2"})
    first = plugin._message(one)
    assert plugin._message(one) is first
    assert pluginapi.AllocateResponse.FromString(plugin._message(other)).container_responses[
        0
    ].envs == {"A": "2"}


async def test_edits_that_never_come_again_are_not_kept_for_ever() -> None:
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    for number in range(3 * MAX_MESSAGES):
        plugin._message(ContainerEdits(env={"A": str(number)}))
    assert len(plugin._messages) <= MAX_MESSAGES


async def test_a_stream_has_ended_when_that_is_said() -> None:
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    begun = asyncio.Event()

    async def read_all() -> None:
        async for _ in plugin._list_and_watch(None, cast("Context", None)):
            begun.set()

    reading = asyncio.create_task(read_all())
    await begun.wait()
    await plugin.end_streams()
    assert plugin.streams.value == 0
    await reading


async def test_a_large_question_is_first_asked_without_being_read() -> None:
    names = tuple(f"gpu-{number:08}" for number in range(4000))
    asked = []

    def large(listed: Resource, question: LargeQuestion) -> Sequence[AdvertisedID] | None:
        asked.append((listed.name, question.count, question.size))
        return (AdvertisedID("gpu-00000007"),)

    plugin = ResourcePlugin(resource(*names), Answer(), prefer, Recorded(), large)
    request = pluginapi.PreferredAllocationRequest()
    request.container_requests.add(available_deviceIDs=names, allocation_size=1)
    data = await plugin._preferred(request.SerializeToString(), cast("Context", None))
    answer = pluginapi.PreferredAllocationResponse.FromString(data)
    assert [list(one.deviceIDs) for one in answer.container_responses] == [["gpu-00000007"]]
    assert asked == [(GPU, 4000, 1)]


async def test_a_container_may_start_whatever_it_holds(served: Served) -> None:
    client = PluginClient(GPU, served.stub.socket_dir / "deviceplugin" / "example.com_gpu.sock")
    await client.pre_start(["a"])
    await client.close()
