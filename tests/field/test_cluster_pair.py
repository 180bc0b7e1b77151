"""The pod of the reference with a GPU and memory of it in one container, on a real daemon."""

import json

import pytest

from deviceplugin.testing.amd import write_amd_node
from deviceplugin.testing.pods import AdmissionError
from tests.resources.conftest import polls
from tests.rig import Rig, two_a100

JOINED = {"rules": [{"joined": True, "offers": [{"replicas": 4}, {"memory": {}}]}]}
GPU, MEMORY = "nvidia.com/gpu", "nvidia.com/gpu-memory"


async def started(rig: Rig, vendor: str, config: object = JOINED) -> None:
    await rig.stub.start()
    rig.start("--vendors", vendor, "--config", str(rig.config(json.dumps(config))))
    await rig.stub.wait_registered(f"{vendor}.com/gpu", f"{vendor}.com/gpu-memory")


async def test_a_gpu_and_16_gib_of_it_are_of_one_gpu_and_a_second_pod_shares_it(rig: Rig) -> None:
    """The stub asks for the resources of a container in random order, as the kubelet does."""
    two_a100(rig.host_root)
    await started(rig, "nvidia")
    used = []
    for number in range(4):
        await rig.stub.admit(f"p{number}", {"c": {GPU: 1, MEMORY: 16}})
        variables = rig.stub.merged(f"p{number}", "c").envs
        uuid = variables["NVIDIA_VISIBLE_DEVICES"]
        assert variables["GPU_SHARE_MEMORY_MIB"] == f"{uuid}=16384"
        used.append(uuid)
    assert sorted(used.count(uuid) for uuid in set(used)) == [2, 2]
    with pytest.raises(AdmissionError):  # 7 GiB are left of each
        await rig.stub.admit("too much", {"c": {GPU: 1, MEMORY: 16}})
    await rig.stub.admit("the rest", {"c": {GPU: 1, MEMORY: 7}})


async def test_the_pair_is_of_one_gpu_for_another_vendor(rig: Rig) -> None:
    write_amd_node(rig.host_root)
    await started(rig, "amd")
    for number in range(3):
        admission = await rig.stub.admit(
            f"p{number}", {"c": {"amd.com/gpu": 1, "amd.com/gpu-memory": 8}}
        )
        parts = [admission.of("c", f"amd.com/gpu{part}").answer for part in ("", "-memory")]
        nodes = [{node.host_path for node in part.devices} for part in parts]
        assert nodes[0] == nodes[1] != set()


async def test_without_joined_the_pair_is_refused_and_its_gpu_is_free_within_seconds(
    rig: Rig,
) -> None:
    two_a100(rig.host_root)
    await started(rig, "nvidia", {"rules": [{"offers": ["whole", {"memory": {}}]}]})
    await rig.stub.admit("other", {"c": {GPU: 1}})
    await rig.allocatable({MEMORY: 39})
    await polls(rig, 2)
    with pytest.raises(AdmissionError):
        await rig.stub.admit("p", {"c": {GPU: 1, MEMORY: 16}})
    await polls(rig, 1)
    await rig.stub.admit("unconcerned", {"c": {}})
    await rig.allocatable({GPU: 1, MEMORY: 39}, timeout_s=30)
    await rig.stub.admit("next", {"c": {MEMORY: 8}})
