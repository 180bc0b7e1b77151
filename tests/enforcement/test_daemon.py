"""The daemon as a process between a kubelet and a container runtime that asks it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deviceplugin.errors import Refusal
from deviceplugin.testing.pods import AdmissionError
from deviceplugin.testing.tree import write_tree
from tests.enforcement.kernel import GIB, KernelTree
from tests.enforcement.runtime import Runtime
from tests.rig import DaemonProcess, Rig, run_command
from tests.vendors.amd.amd_nodes import NODES

MEMORY = "amd.com/gpu-memory"
KEY = "memory.deviceplugin/amd.com_gpu-memory"
RULES = "rules: [{match: {vendor: amd}, offers: [{memory: {unit: 8GiB}}]}]\n"
NAME = f"{MEMORY}-8gi"
UID = "6f1c0a4e-3c0b-4c51-9d0e-8a2f4a1b2c3d"


def discovered(rig: Rig, *flags: str) -> dict[str, object]:
    found = run_command("discover", "--format", "json", *flags)
    sharing: dict[str, object] = json.loads(found.stdout)["sharing"].get(NAME, {})
    return sharing


@pytest.fixture
def address(rig: Rig) -> str:
    """Of the GPU of the node."""
    write_tree(rig.host_root, NODES["mi300x-spx"])
    document = run_command("discover", "--format", "json", "--host-root", str(rig.host_root))
    (device,) = json.loads(document.stdout)["devices"]
    return str(device["pci_address"])


@pytest.fixture
async def runtime(rig: Rig, address: str) -> AsyncIterator[Runtime]:
    capacity = {f"drm/{address}/vram": 192 * GIB}
    kernel = KernelTree(rig.host_root / "sys/fs/cgroup", capacity)
    kernel.make("kubepods/burstable")
    kernel.tree.enable()
    runtime = Runtime(rig.host_root / "var/run/nri/nri.sock", kernel)
    await runtime.start()
    yield runtime
    await runtime.stop()


def start(rig: Rig, more: str) -> DaemonProcess:
    text = f"{RULES}{more}"
    return rig.start("--config", str(rig.config(text)), "--vendors", "amd")


async def test_what_the_kubelet_was_given_is_in_the_cgroup_before_the_container_runs(
    rig: Rig, runtime: Runtime, address: str
) -> None:
    await rig.stub.start()
    daemon = start(rig, "enforcement: {memory: nri, file: true}\nisolation: memory\n")
    await rig.allocatable({NAME: 23})
    await rig.stub.admit("pod", {"main": {NAME: 2}})
    given = rig.stub.merged("pod", "main")
    ((place, mount),) = given.mounts.items()
    assert place == f"/run/deviceplugin/limits/{NAME.replace('/', '_')}"
    assert "GPU_SHARE_ISOLATION=memory\n" in Path(mount.host_path).read_text()
    assert given.annotations == {KEY + "-8gi": f"drm/{address}/vram {16 * GIB}"}
    assert given.envs["GPU_SHARE_ISOLATION"] == "memory"
    path = f"kubepods/burstable/pod{UID}/{'ab' * 32}"
    made = await runtime.create(path, given.annotations, ("default", "pod", UID))
    limits = runtime.kernel.tree.limits(made.cgroup)
    assert limits == {f"drm/{address}/vram": 16 * GIB}
    await daemon.shows(r'^deviceplugin_memory_limit_in_force\{device="[^"]+",reason=""\} 1.0')
    await daemon.shows(r'^deviceplugin_memory_limits_total\{result="set_by_runtime"\} 1.0')
    shown = discovered(rig, "--state-dir", str(rig.state_dir))
    assert shown["isolation"] == "memory"


async def test_slices_that_would_not_hold_are_not_offered_where_isolation_is_asked_for(
    rig: Rig, runtime: Runtime
) -> None:
    await rig.stub.start()
    await runtime.stop()
    daemon = start(rig, "enforcement: {memory: nri}\nisolation: memory\n")
    refused = await daemon.wait_event("resource_refused", resource=NAME)
    assert "isolates by none" in refused["reason"]
    await daemon.wait_event("nri_not_connected")
    await runtime.start()
    await rig.allocatable({NAME: 23})
    await runtime.stop()
    await rig.allocatable({NAME: 0})


async def test_a_container_is_refused_where_its_limit_cannot_be_set(
    rig: Rig, runtime: Runtime
) -> None:
    await rig.stub.start()
    (runtime.kernel.root / "dmem.capacity").write_text("")
    daemon = start(rig, "enforcement: {memory: nri}\n")
    await rig.allocatable({NAME: 23})
    await daemon.wait_event("nri_connected")
    with pytest.raises(AdmissionError, match=r"memory limit .* cannot be set: its driver has no"):
        await rig.stub.admit("pod", {"main": {NAME: 1}})
    await daemon.shows(f'^deviceplugin_allocation_refusals_total.*"{Refusal.UNLIMITED}"')


async def test_a_container_is_let_go_without_its_limit_by_policy(
    rig: Rig, runtime: Runtime
) -> None:
    await rig.stub.start()
    (runtime.kernel.root / "dmem.capacity").write_text("")
    daemon = start(rig, "enforcement: {memory: nri, failure: warn}\n")
    await rig.allocatable({NAME: 23})
    await daemon.wait_event("nri_connected")
    await rig.stub.admit("pod", {"main": {NAME: 1}})
    assert rig.stub.merged("pod", "main").annotations == {}


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("dmem.capacity", "not the host's whole tree"),
        ("cgroup.controllers", "no cgroup tree of version 2"),
        ("", ""),
    ],
)
async def test_discover_without_a_daemon_says_what_holds_and_why_not(
    rig: Rig, runtime: Runtime, missing: str, reason: str
) -> None:
    if missing:
        (runtime.kernel.root / missing).unlink()
    text = f"{RULES}enforcement: {{memory: nri}}\n"
    flags = ("--host-root", str(rig.host_root), "--config", str(rig.config(text)))
    shown = discovered(rig, *flags)
    assert shown["isolation"] == ("none" if reason else "memory")
    assert reason in str(shown.get("memory_not_held", ""))
    printed = run_command("discover", *flags).stdout
    assert ("containers are not held to their memory" in printed) == bool(reason)
    explained = run_command("explain", NAME, "--size", "1", *flags).stdout
    assert f"isolation {'none' if reason else 'memory'}" in explained
    assert reason in explained


async def test_off_is_as_it_was(rig: Rig, runtime: Runtime) -> None:
    await rig.stub.start()
    start(rig, "")
    await rig.allocatable({NAME: 23})
    await rig.stub.admit("pod", {"main": {NAME: 1}})
    given = rig.stub.merged("pod", "main")
    assert given.annotations == {}
    assert given.envs["GPU_SHARE_ISOLATION"] == "none"
    assert not runtime.registered.is_set()
