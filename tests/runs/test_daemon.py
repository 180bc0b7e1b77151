"""The daemon on a simulated node: what a pod did with its GPU is at `/runs`, over a restart too."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.learning.nodes import decode
from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.model import Gpu
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig

pytestmark = pytest.mark.slow

ON = "runs: {enabled: true}\ntelemetry: {enabled: true, interval_s: 1}\nmetrics: {pods: true}\n"


def in_use(gpu: Gpu) -> Gpu:
    return replace(gpu, memory_used_bytes=7 << 30, utilization_gpu_percent=50)


async def runs_of(daemon: DaemonProcess) -> dict[str, Any]:
    """The document, as soon as it has a run."""
    async with asyncio.timeout(WAIT_S):
        while not (found := json.loads(await daemon.answers("/runs")))["runs"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert isinstance(found, dict)
    return found


async def test_a_pod_that_ended_is_a_run_with_what_it_used_and_a_restart_costs_none(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(ON)))
    await rig.stub.wait_registered(GPU)
    await daemon.shows(r"^deviceplugin_runs_running 0")
    for index in range(8):
        nvml.update_gpu(index, in_use)
    await rig.stub.admit("train-x7k2p", {"main": {GPU: 1}})
    await daemon.shows(r"^deviceplugin_runs_running 1")
    await daemon.shows(r'^deviceplugin_gpu_memory_used_bytes\{.*pod="train-x7k2p".*\} 7516192768')
    await daemon.stop()
    daemon = rig.start("--config", str(rig.config(ON)))
    await rig.stub.wait_registered(GPU)
    await daemon.shows(r"^deviceplugin_runs_running 1")
    rig.stub.remove_pod("train-x7k2p")
    found = await runs_of(daemon)
    node, (run,) = decode((await daemon.answers("/runs")).encode())
    assert (node, run.group) == ("node-1", ("default", "train", "main"))
    assert found["groups"] == [["default", "train", "main"]]
    ((_, _, seconds, peak, mean, busy),) = found["runs"]
    assert seconds >= 1
    assert (peak, mean, busy) == (7168.0, 0.5, 0.55)
