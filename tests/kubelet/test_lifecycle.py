"""Registration, and all the ways in which it is lost."""

import asyncio
import random
import socket
from pathlib import Path

import pytest
import structlog.testing
from msgspec.structs import replace

from deviceplugin.errors import RegistrationError
from deviceplugin.kubelet.lifecycle import Backoff, Endpoint, check_socket_path, endpoint_of
from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.kubelet.plugin import ResourcePlugin
from deviceplugin.kubelet.socket import KubeletSocket, SocketIdentity, is_listening, read_identity
from deviceplugin.kubelet.turns import Turns
from deviceplugin.model import ResourceName
from deviceplugin.placement.prefer import prefer
from deviceplugin.testing.kubelet import KubeletStub
from tests.kubelet.conftest import GPU, Answer, Recorded, Served, resource
from tests.rig import WAIT_S


async def registered(stub: KubeletStub, count: int) -> None:
    await stub.wait_for(lambda: len(stub.registrations) == count)


async def test_the_endpoint_is_relative_and_in_a_directory_of_its_own(served: Served) -> None:
    (registration,) = served.stub.registrations
    assert registration.endpoint == "deviceplugin/example.com_gpu.sock"
    assert registration.resource == GPU
    async with asyncio.timeout(WAIT_S):  # the answer to Register comes beside the first list
        while not served.endpoint.ready:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)
    assert served.endpoint.ready


async def test_a_kubelet_restart_registers_once_more_on_the_same_socket(served: Served) -> None:
    before = read_identity(served.stub.socket_dir / "deviceplugin" / "example.com_gpu.sock")
    await served.stub.restart()
    await served.stub.wait_for(lambda: served.stub.allocatable().get(GPU) == 3)
    assert len(served.stub.registrations) == 2
    assert before == read_identity(served.stub.socket_dir / "deviceplugin" / "example.com_gpu.sock")


async def test_a_wiped_directory_gets_a_new_socket(served: Served) -> None:
    await served.stub.restart(wipe="directory")
    await served.stub.wait_for(lambda: served.stub.allocatable().get(GPU) == 3)
    assert (served.stub.socket_dir / "deviceplugin" / "example.com_gpu.sock").exists()


async def test_a_removed_socket_does_not_disturb_a_live_stream(served: Served) -> None:
    (served.stub.socket_dir / "deviceplugin" / "example.com_gpu.sock").unlink()
    served.plugin.show(resource("a"))
    await served.stub.wait_for(lambda: served.stub.capacity()[GPU] == 1)
    assert len(served.stub.registrations) == 1


async def test_another_mode_of_the_kubelets_socket_is_no_new_kubelet(served: Served) -> None:
    before = read_identity(served.stub.kubelet_socket)
    served.stub.kubelet_socket.chmod(0o600)
    assert read_identity(served.stub.kubelet_socket) == before
    served.plugin.show(resource("a"))
    await served.stub.wait_for(lambda: served.stub.capacity()[GPU] == 1)
    assert len(served.stub.registrations) == 1


async def test_a_stream_that_ends_unasked_is_registered_again_at_once(served: Served) -> None:
    for count in (2, 3):
        await served.stub.disconnect(GPU)
        await registered(served.stub, count)
        await served.stub.wait_for(lambda: served.stub.allocatable()[GPU] == 3)
    assert served.stub.live_streams(GPU) == 1


async def test_a_kubelet_that_refuses_is_asked_again(served: Served) -> None:
    served.stub.register_knobs.refuse_next += ["no", "no"]
    await served.stub.restart()
    await served.stub.wait_for(lambda: served.stub.allocatable().get(GPU) == 3)
    async with asyncio.timeout(WAIT_S):  # the answer to Register comes beside the first list
        while len(served.recorded.registrations) < 4:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)
    assert served.recorded.registrations == [True, False, False, True]


async def test_a_kubelet_that_is_away_is_waited_for(served: Served) -> None:
    await served.stub.stop()
    await served.plugin.streams.until(lambda count: count == 0)
    assert not served.endpoint.ready
    await served.stub.start()
    await served.stub.wait_for(lambda: served.stub.allocatable().get(GPU) == 3)


async def test_the_end_leaves_no_stream_and_no_socket(stub: KubeletStub) -> None:
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    kubelet = KubeletSocket(stub.kubelet_socket)
    watch = asyncio.create_task(kubelet.watch())
    serve = asyncio.create_task(Endpoint(plugin, kubelet, Recorded(), seed=1).run())
    await stub.wait_for(lambda: stub.allocatable().get(GPU) == 1)
    serve.cancel()
    await asyncio.wait([serve])
    assert list((stub.socket_dir / "deviceplugin").iterdir()) == []
    assert plugin.streams.value == 0
    watch.cancel()
    await asyncio.wait([watch])


async def test_a_socket_that_another_process_serves_is_left_alone(stub: KubeletStub) -> None:
    path = stub.socket_dir / endpoint_of(GPU)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
        endpoint = Endpoint(plugin, KubeletSocket(stub.kubelet_socket), Recorded(), seed=1)
        with pytest.raises(RegistrationError, match="another process"):
            await endpoint.run()
        assert is_listening(path)


async def test_a_socket_that_cannot_be_bound_is_an_error_that_names_it(stub: KubeletStub) -> None:
    path = stub.socket_dir / endpoint_of(GPU)
    path.mkdir(parents=True)
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    endpoint = Endpoint(plugin, KubeletSocket(stub.kubelet_socket), Recorded(), seed=1)
    with pytest.raises(RegistrationError, match=f"{path}: cannot be bound"):
        await endpoint.run()


async def test_a_stream_that_a_kubelet_drops_is_told_and_one_that_ended_with_it_is_not(
    served: Served,
) -> None:
    with structlog.testing.capture_logs() as lines:
        await served.stub.disconnect(GPU)
        await registered(served.stub, 2)
        await served.stub.wait_for(lambda: served.stub.allocatable()[GPU] == 3)
        await served.stub.restart()
        await registered(served.stub, 3)
    lost = [line for line in lines if line["event"] == "registration_lost"]
    assert [(line["log_level"], line["resource"]) for line in lost] == [
        ("info", GPU),
        ("debug", GPU),
    ]
    assert lost[0]["stream_ended"] is True


def test_endpoint_names_are_short_and_distinct() -> None:
    long = [ResourceName(f"example.com/{'x' * 60}{n}") for n in range(3)]
    names = {endpoint_of(name) for name in long}
    assert len(names) == 3
    assert max(len(f"/var/lib/kubelet/device-plugins/{name}") for name in names) <= 107


def test_a_path_beyond_what_the_kernel_takes_is_refused_in_words() -> None:
    with pytest.raises(RegistrationError, match="at most 107 bytes"):
        check_socket_path(Path("/" + "x" * 107))


ONE, OTHER = SocketIdentity(1, 1), SocketIdentity(2, 2)


def test_a_new_kubelet_is_tried_without_any_wait() -> None:
    backoff = Backoff(random.Random(1))
    assert [backoff.next_s(kubelet, 0.0) for kubelet in (ONE, OTHER, ONE, OTHER)] == [0.0] * 4


def test_a_kubelet_that_keeps_refusing_is_asked_less_and_less_up_to_a_limit() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s(ONE, 0.0) for _ in range(12)]
    assert waits[0] == 0
    assert 0.05 <= waits[1] <= 0.1
    assert all(2.5 <= wait <= 5.0 for wait in waits[7:])


def test_the_first_attempt_waits_for_nothing_whichever_kubelet_it_is() -> None:
    assert Backoff(random.Random(1)).next_s(None, 0.0) == 0.0


def test_a_registration_that_lasted_is_renewed_at_once_and_one_that_did_not_is_not() -> None:
    backoff = Backoff(random.Random(1))
    backoff.next_s(ONE, 0.0)
    backoff.accepted(0.0)
    assert backoff.next_s(ONE, 60.0) == 0
    backoff.accepted(60.0)
    assert backoff.next_s(ONE, 60.1) > 0


class TestKubeletSocket:
    """Presence of a kubelet: the file alone proves nothing."""

    async def test_a_stale_socket_is_not_a_kubelet(self, short_dir: Path) -> None:
        path = short_dir / "kubelet.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        kubelet = KubeletSocket(path)
        watch = asyncio.create_task(kubelet.watch())
        await asyncio.sleep(0.01)
        assert kubelet.listening.value is None
        path.unlink()
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(str(path))
            alive.listen()
            await asyncio.wait_for(kubelet.listening.until(lambda v: v is not None), WAIT_S)
        watch.cancel()
        await asyncio.wait([watch])

    async def test_a_directory_that_comes_later_is_watched(self, short_dir: Path) -> None:
        path = short_dir / "later" / "kubelet.sock"
        kubelet = KubeletSocket(path)
        watch = asyncio.create_task(kubelet.watch())
        await asyncio.sleep(0)
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(str(path))
            alive.listen()
            await asyncio.wait_for(kubelet.listening.until(lambda v: v is not None), WAIT_S)
        watch.cancel()
        await asyncio.wait([watch])


async def test_resources_that_pods_hold_are_registered_first(stub: KubeletStub) -> None:
    held = ResourceName("example.com/z-held")
    kubelet = KubeletSocket(stub.kubelet_socket)
    watch = asyncio.create_task(kubelet.watch())
    turns = Turns(lambda: {held})
    names = [ResourceName(f"example.com/a{n}") for n in range(3)] + [held]
    serving = [
        asyncio.create_task(Endpoint(plugin, kubelet, KubeletMetrics(), 1, turns).run())
        for plugin in (
            ResourcePlugin(replace(resource("x"), name=name), Answer(), prefer, KubeletMetrics())
            for name in names
        )
    ]
    await registered(stub, 4)
    await stub.restart()
    await registered(stub, 8)
    assert stub.registrations[0].resource == held
    assert stub.registrations[4].resource == held
    for task in (*serving, watch):
        task.cancel()
    await asyncio.wait([*serving, watch])


async def test_a_held_resource_that_does_not_come_holds_nobody_up() -> None:
    held = ResourceName("example.com/held")
    turns = Turns(lambda: {held})
    with turns.serving(held), turns.serving(GPU):
        await turns.turn(GPU, ONE)
        await turns.turn(held, ONE)
        turns.registered(held, ONE)
        async with asyncio.timeout(WAIT_S):
            await turns.turn(GPU, ONE)


async def test_a_kubelet_that_ends_is_one_line(stub: KubeletStub) -> None:
    kubelet = KubeletSocket(stub.kubelet_socket)
    watch = asyncio.create_task(kubelet.watch())
    with structlog.testing.capture_logs() as lines:
        serving = [
            asyncio.create_task(Endpoint(plugin, kubelet, KubeletMetrics(), 1).run())
            for plugin in (
                ResourcePlugin(
                    replace(resource("x"), name=ResourceName(f"example.com/a{n}")),
                    Answer(),
                    prefer,
                    KubeletMetrics(),
                )
                for n in range(5)
            )
        ]
        await registered(stub, 5)
        await stub.stop()
        await kubelet.listening.until(lambda identity: identity is None)
        await stub.start()
        await registered(stub, 5)
        for task in (*serving, watch):
            task.cancel()
        await asyncio.wait([*serving, watch])
    loud = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert loud.count("kubelet_gone") == 1
    assert loud.count("not_registered") == 0
    assert len(loud) <= 1 + 2 + 10 + 5  # the two kubelets, registrations, streams seen first


async def test_a_refusal_is_logged_once_for_each_reason(stub: KubeletStub) -> None:
    stub.register_knobs.refuse_next += ["no", "no", "never", "no"]
    kubelet = KubeletSocket(stub.kubelet_socket)
    watch = asyncio.create_task(kubelet.watch())
    plugin = ResourcePlugin(resource("x"), Answer(), prefer, KubeletMetrics())
    with structlog.testing.capture_logs() as lines:
        serving = asyncio.create_task(Endpoint(plugin, kubelet, KubeletMetrics(), 1).run())
        await stub.wait_for(lambda: stub.allocatable().get(GPU) == 1)
        for task in (serving, watch):
            task.cancel()
        await asyncio.wait([serving, watch])
    refused = [line for line in lines if line["event"] == "not_registered"]
    assert [line["log_level"] for line in refused] == ["warning", "debug", "warning", "warning"]


async def test_a_list_that_grows_beyond_what_its_requests_may_have_is_served_anew(
    served: Served,
) -> None:
    """Whoever has few devices takes no long request: a message costs memory before it is read."""
    ids = [f"device-{number:0100d}" for number in range(3000)]
    served.plugin.show(resource(*ids))
    await served.stub.wait_for(lambda: served.stub.capacity()[GPU] == len(ids), WAIT_S)
    await registered(served.stub, 2)
    await served.stub.wait_for(lambda: served.stub.allocatable().get(GPU) == len(ids), WAIT_S)
    assert not served.plugin.outgrown
    answer = await served.stub.allocate(GPU, ids)  # over MIN_MESSAGE_BYTES
    assert len(answer.container_responses) == 1


async def test_a_resource_is_served_where_no_gate_can_be(stub: KubeletStub) -> None:
    (stub.kubelet_dir / "own").write_text("no directory")
    plugin = ResourcePlugin(resource("a"), Answer(), prefer, Recorded())
    kubelet = KubeletSocket(stub.kubelet_socket)
    endpoint = Endpoint(plugin, kubelet, Recorded(), seed=1)
    endpoint.private = stub.kubelet_dir / "own"
    with structlog.testing.capture_logs() as logs:
        tasks = [asyncio.create_task(kubelet.watch()), asyncio.create_task(endpoint.run())]
        await stub.wait_for(lambda: stub.allocatable().get(GPU) == 1, WAIT_S)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["no_gate"]
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])
