"""One GPU in several forms: the daemon against a kubelet, the ledger read back from it."""

import asyncio

import pytest

from deviceplugin.testing.pods import AdmissionError
from tests.fakes.nvml import gpu_uuid
from tests.sharing.conftest import Node

GPU, SHARED, MEMORY = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/gpu-memory"
FORMS = {"rules": [{"offers": ["whole", {"replicas": 4}, {"memory": {"unit": "1GiB"}}]}]}
EACH = 39  # GiB of an A100 of 40 GB that the driver leaves


async def started(node: Node) -> None:
    await node.start(FORMS)
    await node.kubelet.wait_registered(GPU, SHARED, MEMORY)
    assert node.kubelet.allocatable() == {GPU: 2, SHARED: 8, MEMORY: 2 * EACH}


async def test_a_slice_takes_its_gpu_from_the_other_forms_until_it_is_freed(node: Node) -> None:
    await started(node)
    admission = await node.kubelet.admit("p", {"c": {MEMORY: 3}})
    await node.allocatable(GPU, 1)
    await node.allocatable(SHARED, 4)
    assert node.kubelet.allocatable()[MEMORY] == 2 * EACH
    answer = admission.of("c", MEMORY).answer
    uuid = answer.envs["NVIDIA_VISIBLE_DEVICES"]
    assert answer.envs["GPU_SHARE_MEMORY_BYTES"] == f"{uuid}={3 << 30}"
    assert answer.envs["GPU_SHARE_MEMORY_MIB"] == f"{uuid}=3072"
    node.kubelet.remove_pod("p")
    await node.allocatable(GPU, 2)
    await node.allocatable(SHARED, 8)


async def test_the_form_survives_a_restart_of_the_daemon(node: Node) -> None:
    await started(node)
    await node.kubelet.admit("p", {"c": {MEMORY: 3}})
    await node.allocatable(GPU, 1)
    await node.kill()
    await node.start(FORMS)
    await node.kubelet.wait_for(lambda: len(node.kubelet.registrations) == 6)
    await node.allocatable(GPU, 1)
    await node.allocatable(MEMORY, 2 * EACH)
    node.kubelet.remove_pod("p")
    await node.allocatable(GPU, 2)


async def test_the_form_survives_a_restart_of_the_kubelet(node: Node) -> None:
    await started(node)
    await node.kubelet.admit("p", {"c": {GPU: 1}})
    await node.allocatable(MEMORY, EACH)
    await node.kubelet.restart()
    await node.kubelet.wait_registered(GPU, SHARED, MEMORY)
    await node.polls(4)
    assert node.kubelet.allocatable()[MEMORY] == EACH
    assert await node.kubelet.readmit_all() == []
    node.kubelet.remove_pod("p")


async def test_an_allocation_that_loses_the_race_is_refused_with_the_form_in_use(
    node: Node,
) -> None:
    await started(node)
    await node.kubelet.admit("p", {"c": {MEMORY: EACH}})
    used = next(iter(node.kubelet.merged("p", "c").envs["NVIDIA_VISIBLE_DEVICES"].split(",")))
    with pytest.raises(Exception, match=f"in.use.as {MEMORY}"):
        await node.kubelet.allocate(GPU, [used])


async def test_two_forms_raced_at_once_have_one_winner(node: Node) -> None:
    await started(node)
    uuid = gpu_uuid(0)
    wanted = ((GPU, uuid), (SHARED, f"{uuid}::0"), (MEMORY, f"{uuid}-m0"))
    calls = (node.kubelet.allocate(resource, [one]) for resource, one in wanted)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [str(answer) for answer in answers if isinstance(answer, Exception)]
    assert len(refusals) == 2
    assert all("in use as" in text or "in_use_as" in text for text in refusals)


async def test_more_replicas_than_one_are_refused_unless_configured(node: Node) -> None:
    await started(node)
    with pytest.raises(AdmissionError, match="maximum request size for shared resources is 1"):
        await node.kubelet.admit("p", {"c": {SHARED: 2}})


async def test_without_pod_resources_only_the_first_form_is_handed_out(node: Node) -> None:
    await node.kubelet.stop_pod_resources()
    await started(node)
    with pytest.raises(AdmissionError, match="PodResources API does not tell"):
        await node.kubelet.admit("slices", {"c": {MEMORY: 1}})
    await node.kubelet.admit("whole", {"c": {GPU: 1}})


async def test_a_slice_of_a_running_init_container_keeps_the_whole_gpu_away(node: Node) -> None:
    await started(node)
    await node.kubelet.admit("p", {"c": {}}, init_containers={"i": {MEMORY: 1}})
    await node.allocatable(GPU, 1)
    await node.polls(4)
    assert node.kubelet.allocatable()[GPU] == 1
