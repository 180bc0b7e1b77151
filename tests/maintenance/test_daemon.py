"""What the running daemon knows of its GPUs, as `maintenance show` tells it."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import NvmlDouble, RowHistogram
from tests.rig import GPU, Rig, run_command

pytestmark = pytest.mark.slow

ON = """
predictive_maintenance:
  alerts:
  - {name: certain, condition: certain_findings >= 1, severity: critical}
"""


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


async def test_with_the_section_the_daemon_looks_ahead_by_itself(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(ON)))
    await rig.stub.wait_registered(GPU)
    nvml.update_gpu(3, lambda gpu: replace(gpu, histogram=RowHistogram(max=639, none=1)))
    found = await daemon.shows(r'^deviceplugin_certain_finding\{device="(.+?)".*\} 1.0$')
    alert = await daemon.wait_event("maintenance_alert", alert="certain")
    assert alert["device"] == found[1]
    # A minute after the start, by a process of its own: figures for each GPU, and none is at fault.
    await daemon.shows(r"^deviceplugin_failure_probability\{")
    _, text = await daemon.http("/metrics")
    assert text.count("\ndeviceplugin_failure_probability{") == 8
    assert "\ndeviceplugin_maintenance_failing 0.0" in text
    done = await asyncio.to_thread(run_command, "health", f"--state-dir={rig.state_dir}")
    assert f"bank_without_spares of {found[1]}" in done.stdout
