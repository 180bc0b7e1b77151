"""The daemon on a node of NVIDIA GPUs: what the library answers is what /metrics shows."""

import pytest
from msgspec.structs import replace

from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.model import Gpu
from tests.rig import GPU, Rig

pytestmark = pytest.mark.slow

ON = "telemetry: {enabled: true, interval_s: 1}\n"


async def test_a_gpu_is_shown_with_the_pod_that_holds_it(rig: Rig, nvml: NvmlDouble) -> None:
    def busy(gpu: Gpu) -> Gpu:
        return replace(gpu, temperature_c=71, power_usage_mw=312_500)

    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(ON)))
    await rig.stub.wait_registered(GPU)
    for index in range(8):
        nvml.update_gpu(index, busy)
    await rig.stub.admit("train", {"main": {GPU: 1}})
    line = await daemon.shows(r'^deviceplugin_gpu_power_watts\{(.*pod="train".*)\} 312.5$')
    assert 'container="main"' in line[1]
    assert 'partition=""' in line[1]
