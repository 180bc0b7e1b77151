"""PodResources of the kubelet stub, and the stub as a command."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import pytest

from deviceplugin.pb import podresources_v1_pb2 as podapi
from deviceplugin.pb import podresources_v1_pb2_grpc as podrpc
from deviceplugin.testing.kubelet import KubeletStub
from tests.rig import WAIT_S
from tests.testing.conftest import Join
from tests.testing.rawplugin import GPU, RawPlugin, device


@pytest.fixture
async def lister(stub: KubeletStub) -> AsyncIterator[podrpc.PodResourcesListerStub]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    target = f"unix:{stub.pod_resources_socket}"
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield podrpc.PodResourcesListerStub(channel)


def rows(devices: Iterable[podapi.ContainerDevices]) -> list[tuple[str, list[str], list[int]]]:
    return [
        (entry.resource_name, list(entry.device_ids), [node.ID for node in entry.topology.nodes])
        for entry in devices
    ]


async def test_list_has_one_entry_per_device_and_numa_node(
    stub: KubeletStub, join: Join, lister: podrpc.PodResourcesListerStub
) -> None:
    await join(stub, device("a", nodes=(0,)), device("b", nodes=(0, 1)))
    await stub.admit("p", {"c": {GPU: 2}, "plain": {}}, namespace="ns")
    (pod,) = (await lister.List(podapi.ListPodResourcesRequest())).pod_resources
    assert (pod.namespace, pod.name) == ("ns", "p")
    assert [container.name for container in pod.containers] == ["c", "plain"]
    held = rows(pod.containers[0].devices)
    assert held == [(GPU, ["a"], [0]), (GPU, ["b"], [0]), (GPU, ["b"], [1])]
    assert not pod.containers[1].devices


async def test_init_containers_are_not_listed_but_sidecars_are(
    stub: KubeletStub, join: Join, lister: podrpc.PodResourcesListerStub
) -> None:
    await join(stub, device("a"), device("b"))
    await stub.admit("p", {}, init_containers={"i": {GPU: 1}}, sidecars={"s": {GPU: 1}})
    (pod,) = (await lister.List(podapi.ListPodResourcesRequest())).pod_resources
    assert [container.name for container in pod.containers] == ["s"]


async def test_a_removed_pod_vanishes_and_list_frees_its_devices(
    stub: KubeletStub, join: Join, lister: podrpc.PodResourcesListerStub
) -> None:
    await join(stub, device("a"))
    await stub.admit("p", {"c": {GPU: 1}})
    stub.remove_pod("p")
    assert not (await lister.List(podapi.ListPodResourcesRequest())).pod_resources
    assert stub.manager.held == {}


async def test_pods_are_listed_again_once_admitted_after_a_restart(
    stub: KubeletStub, join: Join, lister: podrpc.PodResourcesListerStub
) -> None:
    await join(stub, device("a"))
    await stub.admit("p", {"c": {GPU: 1}})
    await stub.restart()
    wait = {"wait_for_ready": True, "timeout": WAIT_S}
    assert not (await lister.List(podapi.ListPodResourcesRequest(), **wait)).pod_resources
    await stub.readmit_all()
    (pod,) = (await lister.List(podapi.ListPodResourcesRequest())).pod_resources
    assert rows(pod.containers[0].devices) == [(GPU, ["a"], [])]


async def test_get_knows_active_pods_only(
    stub: KubeletStub, join: Join, lister: podrpc.PodResourcesListerStub
) -> None:
    await join(stub, device("a"))
    await stub.admit("p", {"c": {GPU: 1}})
    request = podapi.GetPodResourcesRequest(pod_name="p", pod_namespace="default")
    assert (await lister.Get(request)).pod_resources.name == "p"
    request.pod_name = "x"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lister.Get(request)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert caught.value.details() == "pod x in namespace default not found"


async def test_allocatable_hides_unhealthy_devices_and_empty_topologies(
    stub: KubeletStub, join: Join, lister: podrpc.PodResourcesListerStub
) -> None:
    await join(
        stub,
        device("a", nodes=(0, 1)),
        device("b", "Unhealthy", nodes=(0,)),
        device("c", nodes=()),
        device("d"),
    )
    answer = await lister.GetAllocatableResources(podapi.AllocatableResourcesRequest())
    assert rows(answer.devices) == [(GPU, ["a"], [0]), (GPU, ["a"], [1]), (GPU, ["d"], [])]


async def test_the_service_can_be_off_late_or_exhausted(
    stub: KubeletStub, lister: podrpc.PodResourcesListerStub
) -> None:
    stub.pod_resources_knobs.exhausted = True
    with pytest.raises(grpc.aio.AioRpcError, match="rejected by rate limit") as caught:
        await lister.List(podapi.ListPodResourcesRequest())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stub.pod_resources_knobs.exhausted = False
    stub.pod_resources_knobs.delay_s = 5
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lister.List(podapi.ListPodResourcesRequest(), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await stub.stop_pod_resources()
    assert not stub.pod_resources_socket.exists()
    await stub.start_pod_resources()
    assert stub.pod_resources_socket.is_socket()


@pytest.mark.slow
async def test_the_command_shows_capacity_and_ends_on_sigterm(kubelet_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deviceplugin.testing.kubelet"),
        *("--kubelet-dir", str(kubelet_dir), "--allocate", f"{GPU}=1"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"serving on" in await process.stdout.readline()
    sockets = kubelet_dir / "device-plugins"
    plugin = await RawPlugin(sockets / "x" / "gpu.sock", [device("a")]).serve()
    await plugin.register(sockets / "kubelet.sock")
    lines = [await process.stdout.readline() for _ in range(2)]
    assert sorted(lines) == [
        f"{GPU} capacity=1 allocatable=1\n".encode(),
        f"pod-0: {GPU} a\n".encode(),
    ]
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
    await plugin.stop()
