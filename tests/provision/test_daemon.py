"""A running daemon and the privileged process beside it: from whole GPUs to a declared layout and
back, while other GPUs serve."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from deviceplugin.provision.protocol import FILE
from tests.fakes.nvml import NvmlDouble, Scenario, h200, write_host_tree
from tests.rig import GPU, WAIT_S, Rig, environment, run_command

pytestmark = pytest.mark.slow

LARGE, SMALL = "nvidia.com/mig-3g.71gb", "nvidia.com/mig-1g.18gb"
CUT = """
partitions:
  - select: {id: FREE}
    mig: {3g.71gb: 1, 1g.18gb: 2}
"""
WHOLE = """
partitions:
  - none: true
"""


class HelperProcess:
    """`deviceplugin provision` on a rig's node."""

    def __init__(self, rig: Rig, *arguments: str) -> None:
        self.log = rig.root / "provision.log"
        command = [sys.executable, "-m", "deviceplugin", "provision"]
        places = ("--host-root", str(rig.host_root), "--state-dir", str(rig.state_dir))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *places, *arguments], stderr=log, env=environment()
            )

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(WAIT_S)


@pytest.fixture
def double(rig: Rig) -> NvmlDouble:
    double = NvmlDouble(rig.host_root, scenario=Scenario(gpus=(h200(0), h200(1))))
    write_host_tree(rig.host_root, double.scenario)
    return double


@pytest.fixture
def helper(rig: Rig, double: NvmlDouble) -> Iterator[HelperProcess]:
    process = HelperProcess(rig)
    yield process
    process.end()


async def test_a_running_node_goes_to_a_layout_and_back(rig: Rig, helper: HelperProcess) -> None:
    await rig.stub.start()
    config = rig.config("")
    daemon = rig.start("--config", str(config))
    await rig.allocatable({GPU: 2})
    await rig.stub.admit("other", {"main": {GPU: 1}})
    held = rig.stub.merged("other", "main").envs["NVIDIA_VISIBLE_DEVICES"]
    (free,) = rig.healthy(GPU) - {held}
    config.write_text(CUT.replace("FREE", free))
    await rig.allocatable({GPU: 1, LARGE: 1, SMALL: 2})
    await daemon.wait_event("partitions_changed")
    await daemon.shows(r'^deviceplugin_partition_gpus{state="as-wanted",vendor="nvidia"} 1')
    status = run_command("provision", "--status", "--state-dir", str(rig.state_dir))
    assert "as-wanted" in status.stdout, status.stderr
    config.write_text(WHOLE)
    await rig.allocatable({GPU: 2, LARGE: 0, SMALL: 0})
    assert helper.end() == 0
    assert not (rig.state_dir / FILE).exists()
