"""One GPU in several forms: the daemon against a kubelet, the ledger read back from it."""

import asyncio
import signal

import pytest

from deviceplugin.testing.pods import AdmissionError
from tests.fakes.nvml import gpu_uuid
from tests.resources.conftest import polls, start
from tests.rig import Rig

GPU, SHARED, MEMORY = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/gpu-memory"
FORMS = {"rules": [{"offers": ["whole", {"replicas": 4}, {"memory": {"unit": "1GiB"}}]}]}
EACH = 39  # GiB of an A100 of 40 GB that the driver leaves


async def started(rig: Rig) -> None:
    start(rig, FORMS)
    await rig.stub.wait_registered(GPU, SHARED, MEMORY)
    assert rig.stub.allocatable() == {GPU: 2, SHARED: 8, MEMORY: 2 * EACH}


async def test_a_slice_takes_its_gpu_from_the_other_forms_until_it_is_freed(rig: Rig) -> None:
    await started(rig)
    admission = await rig.stub.admit("p", {"c": {MEMORY: 3}})
    await rig.allocatable({GPU: 1})
    await rig.allocatable({SHARED: 4})
    assert rig.stub.allocatable()[MEMORY] == 2 * EACH
    answer = admission.of("c", MEMORY).answer
    uuid = answer.envs["NVIDIA_VISIBLE_DEVICES"]
    assert answer.envs["GPU_SHARE_MEMORY_BYTES"] == f"{uuid}={3 << 30}"
    assert answer.envs["GPU_SHARE_MEMORY_MIB"] == f"{uuid}=3072"
    rig.stub.remove_pod("p")
    await rig.allocatable({GPU: 2})
    await rig.allocatable({SHARED: 8})


async def test_the_form_survives_a_restart_of_the_daemon(rig: Rig) -> None:
    await started(rig)
    await rig.stub.admit("p", {"c": {MEMORY: 3}})
    await rig.allocatable({GPU: 1})
    await rig.daemons.pop().stop(signal.SIGKILL)
    start(rig, FORMS)
    await rig.stub.wait_for(lambda: len(rig.stub.registrations) == 6)
    await rig.allocatable({GPU: 1})
    await rig.allocatable({MEMORY: 2 * EACH})
    rig.stub.remove_pod("p")
    await rig.allocatable({GPU: 2})


async def test_the_form_survives_a_restart_of_the_kubelet(rig: Rig) -> None:
    await started(rig)
    await rig.stub.admit("p", {"c": {GPU: 1}})
    await rig.allocatable({MEMORY: EACH})
    await rig.stub.restart()
    await rig.stub.wait_registered(GPU, SHARED, MEMORY)
    await polls(rig, 4)
    assert rig.stub.allocatable()[MEMORY] == EACH
    assert await rig.stub.readmit_all() == []
    rig.stub.remove_pod("p")


async def test_an_allocation_that_loses_the_race_is_refused_with_the_form_in_use(
    rig: Rig,
) -> None:
    await started(rig)
    await rig.stub.admit("p", {"c": {MEMORY: EACH}})
    used = next(iter(rig.stub.merged("p", "c").envs["NVIDIA_VISIBLE_DEVICES"].split(",")))
    with pytest.raises(Exception, match=f"in.use.as {MEMORY}"):
        await rig.stub.allocate(GPU, [used])


async def test_two_forms_raced_at_once_have_one_winner(rig: Rig) -> None:
    await started(rig)
    uuid = gpu_uuid(0)
    wanted = ((GPU, uuid), (SHARED, f"{uuid}::0"), (MEMORY, f"{uuid}-m0"))
    calls = (rig.stub.allocate(resource, [one]) for resource, one in wanted)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [str(answer) for answer in answers if isinstance(answer, Exception)]
    assert len(refusals) == 2
    assert all("in use as" in text or "in_use_as" in text for text in refusals)


async def test_more_replicas_than_one_are_refused_unless_configured(rig: Rig) -> None:
    await started(rig)
    with pytest.raises(AdmissionError, match="maximum request size for shared resources is 1"):
        await rig.stub.admit("p", {"c": {SHARED: 2}})


async def test_without_pod_resources_only_the_first_form_is_handed_out(rig: Rig) -> None:
    await rig.stub.stop_pod_resources()
    await started(rig)
    with pytest.raises(AdmissionError, match="PodResources API does not tell"):
        await rig.stub.admit("slices", {"c": {MEMORY: 1}})
    await rig.stub.admit("whole", {"c": {GPU: 1}})


async def test_a_slice_of_a_running_init_container_keeps_the_whole_gpu_away(rig: Rig) -> None:
    await started(rig)
    await rig.stub.admit("p", {"c": {}}, init_containers={"i": {MEMORY: 1}})
    await rig.allocatable({GPU: 1})
    await polls(rig, 4)
    assert rig.stub.allocatable()[GPU] == 1
