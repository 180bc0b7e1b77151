"""MPS: the control daemon is a child of ours, gates the resource and is started again."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from deviceplugin.model import ResourceName
from deviceplugin.resources.services import services_of
from deviceplugin.vendors.nvidia.mps import Mps, limits
from tests.resources.builders import gpu, inventory, sharing
from tests.resources.conftest import polls, start
from tests.rig import Rig

GPU = "nvidia.com/gpu"
# As the real one: in front with -f, else a client that reads commands.
PROGRAM = """#!{python}
import os, pathlib, signal, sys, time
pipe = pathlib.Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
logs = pathlib.Path(os.environ["CUDA_MPS_LOG_DIRECTORY"])
if sys.argv[1:] == ["-f"]:
    while (pipe.parents[2] / "hold").exists():
        time.sleep(0.02)
    print("warming up", flush=True)
    if (server := os.fork()) == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one that has to be made to end
        print("a server, too", file=sys.stderr, flush=True)
        signal.pause()
    (pipe / "server").write_text(str(server))
    if (pipe.parents[2] / "fail").exists():
        sys.exit("no GPU was left for it")
    (pipe / "new").write_text(str(os.getpid()))
    (pipe / "new").rename(pipe / "control")
    signal.pause()
if not (pipe / "control").exists():
    sys.exit(1)
with (logs / "commands").open("a") as file:
    file.write(sys.stdin.read())
"""
RULES = {"rules": [{"offers": [{"replicas": 4, "sharing": "mps"}]}]}


@pytest.fixture
def mps_root(rig: Rig) -> Path:
    """The MPS root of the node, and its control program in the driver's place."""
    program = rig.host_root / "usr/bin/nvidia-cuda-mps-control"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    root = rig.host_root / "run/nvidia/mps"
    root.mkdir(parents=True)
    return root


def client_is_served(mps_root: Path) -> bool:
    """Whether the socket that clients see is that of the control daemon."""
    folder = mps_root / "nvidia.com/gpu"
    return (folder / "client/control").samefile(folder / "pipe/control")


async def test_the_resource_waits_for_mps_and_suffers_from_its_death(
    rig: Rig, mps_root: Path
) -> None:
    (mps_root / "hold").write_text("")
    start(rig, RULES)
    await rig.stub.wait_registered(GPU)
    await polls(rig, 1)
    assert rig.stub.allocatable() == {GPU: 0}
    assert rig.stub.capacity() == {GPU: 8}
    (mps_root / "hold").unlink()
    await rig.allocatable({GPU: 8})

    admission = await rig.stub.admit("p", {"c": {GPU: 1}})
    answer = admission.of("c", GPU).answer
    assert answer.envs["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/nvidia.com/gpu/pipe"
    assert answer.envs["GPU_SHARE_ISOLATION"] == "none"
    assert {(m.container_path, m.host_path) for m in answer.mounts} == {
        ("/mps/nvidia.com/gpu/pipe", "/run/nvidia/mps/nvidia.com/gpu/client"),
    }
    assert answer.mounts[0].read_only
    assert [path.name for path in (mps_root / "nvidia.com/gpu/client").iterdir()] == ["control"]
    assert client_is_served(mps_root)
    commands = mps_root / "nvidia.com/gpu/log/commands"
    assert commands.read_text().splitlines()[1:] == [
        "set_default_device_pinned_mem_limit 0 10084M",
        "set_default_device_pinned_mem_limit 1 10084M",
        "set_default_active_thread_percentage 25",
    ]

    pid = int((mps_root / "nvidia.com/gpu/pipe/control").read_text())
    (mps_root / "hold").write_text("")
    (mps_root / "nvidia.com/gpu/pipe/control").unlink()
    os.kill(pid, signal.SIGKILL)
    await rig.allocatable({GPU: 0})
    (mps_root / "hold").unlink()
    await rig.allocatable({GPU: 8})
    assert client_is_served(mps_root)

    pid = int((mps_root / "nvidia.com/gpu/pipe/control").read_text())
    assert await rig.daemons[-1].stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_control_daemon_that_dies_leaves_no_server(rig: Rig, mps_root: Path) -> None:
    daemon = start(rig, RULES)
    await rig.allocatable({GPU: 8})
    pipe = mps_root / "nvidia.com/gpu/pipe"
    control, server = (int((pipe / name).read_text()) for name in ("control", "server"))
    (mps_root / "hold").write_text("")
    (pipe / "control").unlink()
    os.kill(control, signal.SIGKILL)
    await rig.allocatable({GPU: 0})
    await daemon.until(lambda: not Path(f"/proc/{server}").exists())  # nor as a zombie
    (mps_root / "hold").unlink()
    await rig.allocatable({GPU: 8})
    server = int((pipe / "server").read_text())
    assert await daemon.stop() == 0
    assert not Path(f"/proc/{server}").exists()


async def test_what_the_control_daemon_prints_is_where_the_advice_says(
    rig: Rig, mps_root: Path
) -> None:
    (mps_root / "fail").write_text("")
    daemon = start(rig, RULES)
    said = "ended with status 1: no GPU was left for it"
    await daemon.until(lambda: said in daemon.log_path.read_text(), daemon.log_path.read_text)
    assert "log/output.log" in Mps.ADVICE
    printed = (mps_root / "nvidia.com/gpu/log/output.log").read_text()
    assert "warming up" in printed
    assert "a server, too" in printed


async def test_no_directory_of_mps_can_be_written_by_others(rig: Rig, mps_root: Path) -> None:
    start(rig, RULES)
    await rig.allocatable({GPU: 8})
    for path in (mps_root / "nvidia.com/gpu").iterdir():
        assert path.stat().st_mode & 0o022 == 0


async def test_the_daemon_of_a_run_that_was_killed_is_used_until_it_ends(
    rig: Rig, mps_root: Path
) -> None:
    start(rig, RULES)
    await rig.allocatable({GPU: 8})
    pid = int((mps_root / "nvidia.com/gpu/pipe/control").read_text())
    await rig.daemons.pop().stop(signal.SIGKILL)
    await rig.allocatable({GPU: 0})
    start(rig, RULES)
    await rig.allocatable({GPU: 8})
    assert int((mps_root / "nvidia.com/gpu/pipe/control").read_text()) == pid
    os.kill(pid, signal.SIGKILL)


async def test_a_changed_configuration_leaves_the_daemon_of_containers_alone(
    rig: Rig, mps_root: Path
) -> None:
    start(rig, RULES)
    await rig.allocatable({GPU: 8})
    pid = int((mps_root / "nvidia.com/gpu/pipe/control").read_text())
    messages = rig.stub.messages(GPU)
    hidden = {"offers": ["exclude"], "match": {"index": 9}}
    rig.config(json.dumps({"rules": [*RULES["rules"], hidden]}))
    await rig.daemons[-1].wait_event("configuration_reloaded")
    await polls(rig, 2)
    assert int((mps_root / "nvidia.com/gpu/pipe/control").read_text()) == pid
    os.kill(pid, 0)
    assert rig.stub.allocatable() == {GPU: 8}
    assert rig.stub.messages(GPU) == messages


def test_slices_have_limits_of_their_own_and_the_server_none() -> None:
    rules = sharing({"offers": [{"memory": {}, "sharing": "mps"}]})
    node = inventory(gpu(0))
    services = services_of(rules.plan(node).resources, node.devices)
    ((method, shared),) = services.values()
    assert (method, shared.name) == ("mps", ResourceName("nvidia.com/gpu-memory"))
    assert list(limits(shared)) == []


def test_mps_of_another_vendor_is_refused() -> None:
    node = inventory(gpu(0, vendor="amd", resource="amd.com/gpu"))
    (problem,) = sharing(RULES["rules"][0]).plan(node).problems
    assert problem.reason.endswith("is for whole NVIDIA GPUs, not for devices of vendor amd")
