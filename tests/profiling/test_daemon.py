"""The daemon on NVML's double: the counters of a GPU become a profile of the pod that holds it."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.model import Gpm, Gpu
from tests.rig import GPU, Rig, run_command

pytestmark = pytest.mark.slow
CONFIG = "profiling: {enabled: true}\ntelemetry: {enabled: true, interval_s: 1}\n"


def hopper(gpu: Gpu) -> Gpu:
    """Busy for 90 % of the time, a quarter of its memory's bandwidth in use."""
    counters = (Gpm(metric=10, value=25_000), Gpm(metric=2, value=80_000))
    return replace(gpu, name="NVIDIA H200", gpm=counters, utilization_gpu_percent=90)


async def test_counters_become_the_profile_of_a_pod(rig: Rig, nvml: NvmlDouble) -> None:
    for index in range(8):
        nvml.update_gpu(index, hopper)
    await rig.stub.start()
    rig.start("--config", str(rig.config(CONFIG)))
    await rig.stub.wait_registered(GPU)
    await rig.stub.admit("train", {"main": {GPU: 1}})
    (one,) = (await profiled(rig, "train"))["containers"]
    assert (one["container"], one["resource"], one["shared_with"]) == ("main", GPU, 0)
    metrics = one["metrics"]
    assert metrics["compute_utilization"]["mean"] == pytest.approx(0.9)
    assert metrics["memory_bandwidth"]["high"] == pytest.approx(1.2e12)
    assert metrics["memory_transfer_time"]["value"] is None
    files = [*(rig.state_dir / "profiling").glob("profile-*.jsonl")]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert {line["device"] for line in lines} >= {one["device"]}
    assert not any("held_by" in line for line in lines), "metrics.pods is off"


async def profiled(rig: Rig, pod: str) -> dict[str, Any]:
    """What the command says once there are two rounds with a bandwidth."""
    asked = ("profile", pod, "--state-dir", str(rig.state_dir), "--format", "json")
    while True:  # the rig's own limit ends it
        done = await asyncio.to_thread(run_command, *asked)
        if done.returncode == 0:
            document: dict[str, Any] = json.loads(done.stdout)
            if "high" in document["containers"][0]["metrics"]["memory_bandwidth"]:
                return document
        await asyncio.sleep(0.2)


def test_tools_are_shown_without_a_daemon() -> None:
    done = run_command("profile", "--tools", "--format", "json")
    assert done.returncode == 0
    assert {one["name"] for one in json.loads(done.stdout)["tools"]} >= {
        "nsight-systems",
        "rocprof",
    }
    assert run_command("profile").returncode == 2
