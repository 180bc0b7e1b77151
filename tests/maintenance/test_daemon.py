"""What the running daemon knows of its GPUs, as `maintenance show` tells it."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import NvmlDouble, RowHistogram
from tests.rig import GPU, Rig, run_command

pytestmark = pytest.mark.slow


async def test_a_bank_without_spares_is_certain_and_ends_with_status_1(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    daemon = rig.start()
    await rig.stub.wait_registered(GPU)
    show = ("maintenance", "show", "-o", "json", f"--state-dir={rig.state_dir}")
    done = await asyncio.to_thread(run_command, *show)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["gpus"]) == 8
    nvml.update_gpu(3, lambda gpu: replace(gpu, histogram=RowHistogram(max=639, none=1)))
    fault = await daemon.wait_event("fault", code="no_spare_rows")
    done = await asyncio.to_thread(run_command, *show)
    assert done.returncode == 1, done.stderr
    found = {one["id"]: one["certain"] for one in json.loads(done.stdout)["gpus"]}
    assert [one["finding"] for one in found.pop(fault["device"])] == ["bank_without_spares"]
    assert not any(found.values())
