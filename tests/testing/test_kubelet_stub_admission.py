"""The kubelet stub chooses, allocates, leaks and crashes as facts about the real one say."""

import asyncio
from pathlib import Path

import grpc
import pytest

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.admission import NotAllocatedError
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.plugin_client import RpcError
from deviceplugin.testing.pods import AdmissionError
from tests.testing.conftest import FakeClock, Join
from tests.testing.rawplugin import GPU, device, one_answer

NIC = "example.com/nic"
BOOM = (grpc.StatusCode.INTERNAL, "boom")


def gpus(count: int) -> list[pluginapi.Device]:
    return [device(f"gpu-{index}") for index in range(count)]


def empty_answer(_request: pluginapi.AllocateRequest) -> pluginapi.AllocateResponse:
    return pluginapi.AllocateResponse()


# Choice of devices


async def test_a_pod_gets_the_number_of_devices_it_asks_for(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, *gpus(4))
    admission = await stub.admit("p", {"c": {GPU: 2}})
    ids = admission.of("c", GPU).device_ids
    assert sorted(plugin.allocated[0]) == list(ids)
    assert admission.of("c", GPU).answer.envs["GPUS"] == ",".join(ids)


async def test_devices_are_not_given_twice(stub: KubeletStub, join: Join) -> None:
    await join(stub, *gpus(2))
    await stub.admit("p", {"c": {GPU: 2}})
    with pytest.raises(AdmissionError, match="not enough free devices"):
        await stub.admit("q", {"c": {GPU: 1}})


async def test_a_resource_never_registered_is_left_to_others(stub: KubeletStub, join: Join) -> None:
    await join(stub, *gpus(1))
    admission = await stub.admit("p", {"c": {"example.com/other": 1, "cpu": 2}})
    assert admission.allocations == ()


async def test_devices_of_a_removed_pod_come_free_at_the_next_admission(
    stub: KubeletStub, join: Join
) -> None:
    await join(stub, *gpus(1))
    await stub.admit("p", {"c": {GPU: 1}})
    stub.remove_pod("p")
    await stub.admit("q", {"c": {GPU: 1}})
    assert list(stub.pods) == ["default/q"]


async def test_init_containers_devices_are_used_again_without_asking_the_plugin(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(3), preferring=lambda wanted: wanted.available_deviceIDs[:2])
    admission = await stub.admit("p", {"c": {GPU: 2}}, init_containers={"i": {GPU: 2}})
    assert admission.of("c", GPU).device_ids == admission.of("i", GPU).device_ids
    assert len(plugin.preferred) == 1
    assert len(plugin.allocated) == 2


async def test_a_sidecar_keeps_its_devices(stub: KubeletStub, join: Join) -> None:
    await join(stub, *gpus(2))
    admission = await stub.admit("p", {"c": {GPU: 1}}, sidecars={"s": {GPU: 1}})
    assert admission.of("c", GPU).device_ids != admission.of("s", GPU).device_ids


async def test_without_the_option_the_plugin_is_not_asked_for_a_preference(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(2))
    await stub.admit("p", {"c": {GPU: 1}})
    assert plugin.preferred == []


async def test_a_preference_is_asked_for_even_when_all_devices_are_needed(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(2), preferring=lambda wanted: [])
    await stub.admit("p", {"c": {GPU: 2}})
    (wanted,) = plugin.preferred
    assert sorted(wanted.available_deviceIDs) == ["gpu-0", "gpu-1"]
    assert (list(wanted.must_include_deviceIDs), wanted.allocation_size) == ([], 2)


@pytest.mark.parametrize(
    ("preferred", "least"),
    [
        (["gpu-1", "gpu-3"], {"gpu-1", "gpu-3"}),
        (["gpu-1", "unknown"], {"gpu-1"}),
        ([], set()),
    ],
    ids=["taken", "topped-up", "random"],
)
async def test_a_preference_is_taken_and_topped_up(
    stub: KubeletStub, join: Join, preferred: list[str], least: set[str]
) -> None:
    await join(stub, *gpus(4), preferring=lambda wanted: preferred)
    ids = set((await stub.admit("p", {"c": {GPU: 2}})).of("c", GPU).device_ids)
    assert least <= ids
    assert len(ids) == 2
    assert ids <= {"gpu-0", "gpu-1", "gpu-2", "gpu-3"}


async def test_too_long_a_preference_is_cut(stub: KubeletStub, join: Join) -> None:
    await join(stub, *gpus(6), preferring=lambda wanted: ["gpu-1", "gpu-2", "gpu-3"])
    ids = set((await stub.admit("p", {"c": {GPU: 2}})).of("c", GPU).device_ids)
    assert len(ids) == 2
    assert ids < {"gpu-1", "gpu-2", "gpu-3"}


async def test_must_include_names_what_reuse_has_taken_already(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(4), preferring=lambda wanted: wanted.must_include_deviceIDs)
    admission = await stub.admit("p", {"c": {GPU: 2}}, init_containers={"i": {GPU: 1}})
    (reused,) = admission.of("i", GPU).device_ids
    assert list(plugin.preferred[1].must_include_deviceIDs) == [reused]
    assert reused in plugin.preferred[1].available_deviceIDs
    assert plugin.preferred[1].allocation_size == 2
    assert reused in admission.of("c", GPU).device_ids


async def test_the_order_of_ids_in_allocate_is_not_sorted(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, *gpus(16))
    await stub.admit("p", {"c": {GPU: 16}})
    assert plugin.allocated[0] != sorted(plugin.allocated[0])


async def test_aligned_devices_are_taken_first_under_a_topology_policy(
    kubelet_dir: Path, join: Join
) -> None:
    async with KubeletStub(kubelet_dir, node_topology_policy="single-numa-node") as stub:
        near = [device(f"near-{index}", nodes=(1,)) for index in range(2)]
        await join(stub, device("far", nodes=(0,)), *near)
        admission = await stub.admit("p", {"c": {GPU: 2}})
        assert admission.of("c", GPU).device_ids == ("near-0", "near-1")
        with pytest.raises(AdmissionError, match="cannot be aligned") as caught:
            await stub.admit("q", {"c": {GPU: 2}})
        assert caught.value.reason == "TopologyAffinityError"


# Failures


async def test_an_error_of_allocate_is_the_pods_message_and_restores_the_devices(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1))
    plugin.on_allocate = lambda request: BOOM
    with pytest.raises(AdmissionError) as caught:
        await stub.admit("p", {"c": {GPU: 1}})
    assert str(caught.value) == (
        "Allocate failed due to rpc error: code = Internal desc = boom, which is unexpected"
    )
    plugin.on_allocate = one_answer
    await stub.admit("q", {"c": {GPU: 1}})


async def test_an_empty_answer_leaks_the_devices_until_another_allocate_errors(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(2))
    plugin.on_allocate = empty_answer
    with pytest.raises(AdmissionError, match="no container_responses"):
        await stub.admit("p", {"c": {GPU: 1}})
    plugin.on_allocate = one_answer
    with pytest.raises(AdmissionError, match="1 free"):
        await stub.admit("q", {"c": {GPU: 2}})
    plugin.on_allocate = lambda request: BOOM
    with pytest.raises(AdmissionError, match="boom"):
        await stub.admit("r", {"c": {GPU: 1}})
    plugin.on_allocate = one_answer
    await stub.admit("s", {"c": {GPU: 2}})


async def test_a_leak_ends_when_a_tracked_pod_goes_away(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, *gpus(2))
    await stub.admit("holder", {"c": {GPU: 1}})
    plugin.on_allocate = empty_answer
    with pytest.raises(AdmissionError):
        await stub.admit("leaker", {"c": {GPU: 1}})
    plugin.on_allocate = one_answer
    stub.remove_pod("holder")
    await stub.admit("q", {"c": {GPU: 2}})


async def test_a_connection_lost_during_allocate_rejects_the_pod(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1))
    plugin.allocate_gate = asyncio.Event()
    admission = asyncio.create_task(stub.admit("p", {"c": {GPU: 1}}))
    await plugin.allocate_entered.wait()
    await stub.disconnect(GPU)
    with pytest.raises(AdmissionError, match="code = Canceled"):
        await admission


async def test_a_hanging_allocate_holds_up_every_other_admission(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(2))
    plugin.allocate_gate = asyncio.Event()
    first = asyncio.create_task(stub.admit("p", {"c": {GPU: 1}}))
    await plugin.allocate_entered.wait()
    second = asyncio.create_task(stub.admit("q", {"c": {GPU: 1}}))
    assert len(plugin.allocated) == 1
    plugin.allocate_gate.set()
    await asyncio.gather(first, second)
    assert len(plugin.allocated) == 2


async def test_a_resource_forgotten_after_the_grace_period_is_unregistered(
    stub: KubeletStub, join: Join, clock: FakeClock
) -> None:
    plugin = await join(stub, *gpus(1))
    await stub.admit("p", {"c": {GPU: 1}})
    plugin.end_stream()
    await stub.wait_for(lambda: stub.allocatable() == {GPU: 0})
    clock.now_s += 301
    assert stub.capacity() == {GPU: 0}
    with pytest.raises(AdmissionError, match=f"cannot allocate unregistered device {GPU}"):
        await stub.admit("q", {"c": {GPU: 1}})
    with pytest.raises(AdmissionError, match="endpoint not found in cache for a registered"):
        await stub.start_container("p", "c")
    await plugin.register(stub.kubelet_socket)
    await stub.wait_registered(GPU)
    assert (await stub.start_container("p", "c")).envs == {"GPUS": "gpu-0"}
    assert len(plugin.allocated) == 1


async def test_pre_start_is_called_at_each_container_start_if_required(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1))
    plugin.options = pluginapi.DevicePluginOptions(pre_start_required=True)
    await plugin.register(stub.kubelet_socket)
    await stub.admit("p", {"c": {GPU: 1}})
    await stub.start_container("p", "c")
    await stub.start_container("p", "c")
    assert plugin.pre_started == [["gpu-0"], ["gpu-0"]]


async def test_several_resources_are_merged_and_the_first_value_stays(
    stub: KubeletStub, join: Join
) -> None:
    await join(stub, device("a"))
    await join(stub, device("n"), socket="x/nic.sock", resource=NIC)
    await stub.admit("p", {"c": {GPU: 1, NIC: 1}})
    merged = stub.merged("p", "c")
    assert merged.envs == {"GPUS": "a"}
    assert merged.conflicts == ["env GPUS"]


async def test_direct_calls_reach_the_plugin_as_given(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, *gpus(3), preferring=lambda wanted: ["gpu-2"])
    answer = await stub.allocate(GPU, ["gpu-2", "gpu-0"], timeout_s=60)
    assert answer.container_responses[0].envs["GPUS"] == "gpu-0,gpu-2"
    assert plugin.allocated == [["gpu-2", "gpu-0"]]
    assert await stub.prefer(GPU, ["gpu-1", "gpu-2"], [], 1) == {"gpu-2"}
    plugin.on_allocate = lambda request: BOOM
    with pytest.raises(RpcError, match="code = Internal desc = boom"):
        await stub.allocate(GPU, ["gpu-0"])
    with pytest.raises(NotAllocatedError, match="unknown"):
        await stub.allocate(NIC, ["x"])


# Restart


async def test_allocations_survive_a_restart(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, *gpus(2))
    await stub.admit("p", {"c": {GPU: 1}})
    await stub.restart()
    await plugin.register(stub.kubelet_socket)
    await stub.wait_registered(GPU)
    assert await stub.readmit_all() == []
    with pytest.raises(AdmissionError, match="1 free"):
        await stub.admit("q", {"c": {GPU: 2}})
    assert len(plugin.allocated) == 1, "no second Allocate for devices held already"


async def test_a_late_plugin_kills_pods_with_init_containers_or_stopped_ones(
    stub: KubeletStub, join: Join
) -> None:
    await join(stub, *gpus(3))
    await stub.admit("running", {"c": {GPU: 1}})
    await stub.admit("looping", {"c": {GPU: 1}})
    await stub.admit("init", {"c": {GPU: 1}}, init_containers={"i": {GPU: 1}})
    stub.stop_container("looping", "c")
    await stub.restart()
    assert await stub.readmit_all() == ["default/looping", "default/init"]
    assert list(stub.pods) == ["default/running"]
    assert "no healthy devices present; cannot allocate unhealthy" in stub.killed["default/init"]


async def test_a_held_device_that_is_unhealthy_at_readmission_kills_the_pod(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1), device("spare"))
    ids = (await stub.admit("p", {"c": {GPU: 1}})).of("c", GPU).device_ids
    stub.stop_container("p", "c")
    await stub.restart()
    health = {name: "Unhealthy" if name in ids else "Healthy" for name in ("gpu-0", "spare")}
    plugin.devices = [device(name, word) for name, word in health.items()]
    await plugin.register(stub.kubelet_socket)
    await stub.wait_registered(GPU)
    assert await stub.readmit_all() == ["default/p"]
    assert "previously allocated devices are no longer healthy; " in stub.killed["default/p"]


async def test_without_its_checkpoint_the_kubelet_gives_held_devices_again(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1))
    await stub.admit("p", {"c": {GPU: 1}})
    await stub.stop()
    stub.forget_checkpoint()
    await stub.start()
    await plugin.register(stub.kubelet_socket)
    await stub.wait_registered(GPU)
    await stub.admit("q", {"c": {GPU: 1}})


# Crashes of the real kubelet


async def test_an_id_removed_while_its_allocate_runs_is_recorded_as_a_crash(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1))
    plugin.allocate_gate = asyncio.Event()
    admission = asyncio.create_task(stub.admit("p", {"c": {GPU: 1}}))
    await plugin.allocate_entered.wait()
    plugin.resend()
    await stub.wait_for(lambda: stub.messages(GPU) == 2)
    plugin.allocate_gate.set()
    with pytest.raises(AdmissionError, match="a crash of the kubelet"):
        await admission
    assert stub.crashes == [
        f"{GPU}: ['gpu-0'] removed from the list while an Allocate of them was in flight"
    ]


@pytest.mark.parametrize(("policy", "crashes"), [("none", 0), ("best-effort", 1)])
async def test_a_held_id_removed_is_a_crash_under_a_topology_policy_only(
    kubelet_dir: Path, join: Join, policy: str, crashes: int
) -> None:
    async with KubeletStub(kubelet_dir, node_topology_policy=policy) as stub:
        plugin = await join(stub, *gpus(1))
        await stub.admit("p", {"c": {GPU: 1}})
        plugin.resend(device("other"))
        await stub.wait_for(lambda: stub.messages(GPU) == 2)
        assert len(stub.crashes) == crashes


async def test_an_id_removed_while_a_preference_is_asked_for_is_a_crash(
    stub: KubeletStub, join: Join
) -> None:
    plugin = await join(stub, *gpus(1), preferring=lambda wanted: ["gpu-0"])
    plugin.prefer_gate = asyncio.Event()
    admission = asyncio.create_task(stub.admit("p", {"c": {GPU: 1}}))
    await plugin.prefer_entered.wait()
    plugin.resend()
    await stub.wait_for(lambda: stub.messages(GPU) == 2)
    plugin.prefer_gate.set()
    with pytest.raises(AdmissionError):
        await admission
    assert len(stub.crashes) == 1


async def test_an_id_removed_after_its_pod_has_gone_is_no_crash(
    kubelet_dir: Path, join: Join
) -> None:
    async with KubeletStub(kubelet_dir, node_topology_policy="best-effort") as stub:
        plugin = await join(stub, *gpus(1))
        await stub.admit("p", {"c": {GPU: 1}})
        stub.remove_pod("p")
        plugin.resend(device("other"))
        await stub.wait_for(lambda: stub.messages(GPU) == 2)
        assert stub.crashes == []


async def test_a_new_pod_of_an_old_name_is_allocated_anew(stub: KubeletStub, join: Join) -> None:
    plugin = await join(stub, *gpus(1))
    await stub.admit("p", {"c": {GPU: 1}})
    stub.remove_pod("p")
    await stub.admit("p", {"c": {GPU: 1}})
    assert len(plugin.allocated) == 2


async def test_an_id_kept_as_unhealthy_is_no_crash(kubelet_dir: Path, join: Join) -> None:
    async with KubeletStub(kubelet_dir, node_topology_policy="restricted") as stub:
        plugin = await join(stub, *gpus(1))
        await stub.admit("p", {"c": {GPU: 1}})
        plugin.resend(device("gpu-0", "Unhealthy"))
        await stub.wait_for(lambda: stub.allocatable() == {GPU: 0})
        assert stub.crashes == []
        assert stub.violations == []


async def test_waiting_too_long_says_for_what_and_shows_the_state(stub: KubeletStub) -> None:
    with pytest.raises(TimeoutError, match=r"the moon did not come within 0\.01 s; generation 1"):
        await stub.wait_for(lambda: False, timeout_s=0.01, what="the moon")
