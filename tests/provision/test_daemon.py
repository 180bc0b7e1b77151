"""A running daemon and the privileged process beside it: from whole GPUs to a declared layout and
back, while other GPUs serve."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping

import pytest

from bench.apiserver import api_server
from deviceplugin.provision.protocol import FILE
from deviceplugin.testing.dra import ClaimName, DraKubelet, RefusedError
from tests.fakes.nvml import NvmlDouble, Scenario, h200, write_host_tree
from tests.fakes.syscalls import Call, Faults, Point
from tests.rig import GPU, WAIT_S, Rig, environment, run_command

pytestmark = pytest.mark.slow

FEW, MOST = 8, 40
INSTANCE = "gpu-1-mig-1g18gb-19-6"
LARGE, SMALL = "nvidia.com/mig-3g.71gb", "nvidia.com/mig-1g.18gb"
CUT = """
partitions:
  - select: {id: FREE}
    mig: {3g.71gb: 1, 1g.18gb: 2}
"""
CLAIMED = """
dra: {enabled: true}
nvidia: {device_list_strategy: [cdi-cri]}
partitions: [{on_demand: true}]
"""
WHOLE = """
partitions:
  - none: true
"""


class HelperProcess:
    """`deviceplugin provision` on a rig's node."""

    def __init__(self, rig: Rig, *arguments: str, **variables: str) -> None:
        self.log = rig.root / "provision.log"
        command = [sys.executable, "-m", "deviceplugin", "provision"]
        places = ("--host-root", str(rig.host_root), "--state-dir", str(rig.state_dir))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *places, *arguments], stderr=log, env=environment() | variables
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


async def test_what_a_pod_holds_is_waited_for_and_told(rig: Rig, helper: HelperProcess) -> None:
    await rig.stub.start()
    config = rig.config("")
    daemon = rig.start("--config", str(config))
    await rig.allocatable({GPU: 2})
    for pod in ("one", "two"):
        await rig.stub.admit(pod, {"main": {GPU: 1}})
    held = rig.stub.merged("one", "main").envs["NVIDIA_VISIBLE_DEVICES"]
    config.write_text(CUT.replace("FREE", held))
    await daemon.until(  # the pod's name is known when the kubelet tells it
        lambda: any("default/one" in e["reason"] for e in daemon.events("partitions_waiting"))
    )
    await daemon.shows(r'^deviceplugin_partition_gpus{state="pending",vendor="nvidia"} 1')
    status = run_command("provision", "--status", "--state-dir", str(rig.state_dir))
    assert "default/one" in status.stdout
    rig.stub.remove_pod("one")
    await rig.allocatable({GPU: 1, LARGE: 1, SMALL: 2})


async def test_a_drain_keeps_new_pods_from_a_gpu_that_is_waited_for(
    rig: Rig, double: NvmlDouble
) -> None:
    helper = HelperProcess(rig, "--drain-wait=3600")
    await rig.stub.start()
    config = rig.config(CUT.replace("{id: FREE}", "{index: [0]}"))
    rig.start("--config", str(config))
    await rig.allocatable({GPU: 1, LARGE: 1, SMALL: 2})
    await rig.stub.admit("small", {"main": {SMALL: 1}})
    config.write_text("partitions: [{select: {index: [0]}, mig: {7g.141gb: 1}}]")
    await rig.allocatable({LARGE: 0, SMALL: 1, GPU: 1})  # the one that is held
    rig.stub.remove_pod("small")
    await rig.allocatable({"nvidia.com/mig-7g.141gb": 1})
    helper.end()


async def test_a_killed_process_leaves_the_old_layout_or_the_new_one(
    rig: Rig, double: NvmlDouble
) -> None:
    """Killed before each write of the journal in turn, it is started again, and the daemon ends
    what was begun."""
    await rig.stub.start()
    layouts = [CUT.replace("{id: FREE}", "{index: [0]}"), WHOLE]
    full = [{GPU: 1, LARGE: 1, SMALL: 2}, {GPU: 2, LARGE: 0, SMALL: 0}]
    config = rig.config(layouts[1])
    daemon = rig.start("--config", str(config))
    await rig.allocatable({GPU: 2})
    faults, lived = Faults(rig.root / "faults"), 0
    for number in range(MOST):
        helper = HelperProcess(rig, **faults.environment)
        faults.kill(Point(Call.RENAME, str(rig.state_dir), skip=number, times=1))
        config.write_text(layouts[number % 2])
        await ended_or(helper, lambda: is_cut(rig, full[number % 2]))  # noqa: B023
        died = helper.process.poll() is not None
        faults.clear()
        if died:
            helper = HelperProcess(rig)
        await rig.allocatable(full[number % 2])
        await daemon.until(lambda: not begun(rig))
        helper.end()
        lived += not died
        if lived == len(layouts):  # there are no more points, either way
            assert number > FEW
            return
    raise AssertionError(f"more than {MOST} points")


def begun(rig: Rig) -> bool:
    """Whether the journal has a change that is not over."""
    return json.loads((rig.state_dir / "partitions.json").read_text())["begun"] is not None


def is_cut(rig: Rig, full: Mapping[str, int]) -> bool:
    return full.items() <= rig.stub.allocatable().items()


async def ended_or(helper: HelperProcess, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while helper.process.poll() is None and not done():  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.05)


async def test_claims_have_instances_made_and_a_killed_process_leaves_none(
    rig: Rig, double: NvmlDouble
) -> None:
    """Through the sockets of all of them; the privileged process is killed before a write of its
    journal, each time a later one, until it lives."""
    await rig.stub.start()
    faults = Faults(rig.root / "faults")
    with api_server(rig.root) as (api, kubeconfig):
        config = rig.config(CLAIMED)
        helper = HelperProcess(rig)
        daemon = rig.start("--config", str(config), KUBECONFIG=kubeconfig)
        await daemon.until(lambda: INSTANCE in api.devices)
        helper.end()
        kubelet = DraKubelet(rig.kubelet_dir)
        async with kubelet.driver(kubelet.sockets()[0]) as driver:
            for number in range(0, MOST, 3):
                helper = HelperProcess(rig, **faults.environment)
                faults.kill(Point(Call.RENAME, str(rig.state_dir), skip=number, times=1))
                claim = ClaimName(uid=f"u-{number}", name=f"c-{number}")
                api.allocate(claim.name, claim.uid, [INSTANCE])
                now = await asked(rig, helper, lambda: driver.prepare(claim))  # noqa: B023
                assert made(rig) == [["1g.18gb", 6]]
                now = await asked(rig, now, lambda: driver.unprepare(claim))  # noqa: B023
                assert made(rig) == []
                now.end()
                if now is helper:  # there are no more points
                    assert number > 0
                    return
    raise AssertionError(f"more than {MOST} points")


async def asked(
    rig: Rig, helper: HelperProcess, call: Callable[[], Awaitable[object]]
) -> HelperProcess:
    """As a kubelet asks: again until it is done; a helper that has died is started again."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await call()
            except RefusedError:
                await asyncio.sleep(0.1)
            else:
                return helper
            if helper.process.poll() is not None:
                helper = HelperProcess(rig)


def made(rig: Rig) -> list[list[object]]:
    """The instances of ours, as the journal has them, which has no change that is not over."""
    assert not begun(rig)
    record = json.loads((rig.state_dir / "partitions.json").read_text())
    return [place for places in record["made"].values() for place in places]
