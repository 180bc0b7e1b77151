"""A daemon that chooses how containers get NVIDIA GPUs: what it does is what every command says."""

import asyncio
import json

from deviceplugin.testing.tree import write_tree
from tests.daemon.test_nvidia_node import serving
from tests.fakes.go import write_go_program
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, Rig, run_command

SECOND = "github.com/containerd/containerd/v2/cmd/containerd"
CUDA = "/usr/lib64/libcuda.so.550.163.01"


def has_containerd(rig: Rig, *, cdi: bool) -> None:
    write_go_program(rig.host_root / "usr/bin/containerd", SECOND)
    body = r"version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = "
    write_tree(rig.host_root, f"/etc/containerd/config.toml = {body}{str(cdi).lower()}")
    write_tree(rig.host_root, f"{CUDA} = x")


async def said(rig: Rig) -> set[str]:
    """The line of `discover`, `health` and `check --node`."""
    where, lines = ("--state-dir", str(rig.state_dir)), []
    for command in (
        ("discover", *where, "--format", "json"),
        ("health", *where, "--format", "json"),
    ):
        done = await asyncio.to_thread(run_command, *command)
        (vendor,) = (v for v in json.loads(done.stdout)["vendors"] if v["name"] == "nvidia")
        lines += vendor["notes"]
    checked = await asyncio.to_thread(
        run_command, "check", "--node", "--vendors", "nvidia", "--host-root", str(rig.host_root)
    )
    marked = "on this node: nvidia: "
    lines += [x.removeprefix(marked) for x in checked.stderr.splitlines() if x.startswith(marked)]
    assert len(lines) == 3
    return set(lines)


async def test_the_choice_is_said_alike_everywhere_and_is_what_a_pod_gets(
    rig: Rig, nvml: NvmlDouble
) -> None:
    has_containerd(rig, cdi=True)
    daemon = await serving(rig)
    note = str((await daemon.wait_event("vendor_note", vendor="nvidia"))["note"])
    assert await said(rig) == {note}
    await rig.stub.admit("pod", {"main": {GPU: 1}})
    given = rig.stub.merged("pod", "main")
    # Where tests run in a container of another runtime than containerd, that is said and counts.
    by_cdi = note == "device_list_strategy auto is cdi-cri: containerd 2.x honours CDI names"
    assert by_cdi or "envvar: pods are run by " in note
    assert (bool(given.cdi_devices), "NVIDIA_VISIBLE_DEVICES" in given.envs) == (by_cdi, not by_cdi)


async def test_a_runtime_that_turns_cdi_off_is_given_the_variable(
    rig: Rig, nvml: NvmlDouble
) -> None:
    has_containerd(rig, cdi=False)
    daemon = await serving(rig)
    note = str((await daemon.wait_event("vendor_note", vendor="nvidia"))["note"])
    assert note.startswith("device_list_strategy auto is envvar: ")
    assert await said(rig) == {note}
    await rig.stub.admit("pod", {"main": {GPU: 1}})
    assert "NVIDIA_VISIBLE_DEVICES" in rig.stub.merged("pod", "main").envs
    assert list(rig.cdi_dir.glob("*nvidia*")) == []
