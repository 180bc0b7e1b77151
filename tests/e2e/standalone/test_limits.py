"""Limits on the memory of slices, set through a real container runtime with NRI (containerd 2).

The runtime, its shim and runc are real, and so are the kubelet and its pods. Where the machine's
kernel has no dmem controller, a program before runc does what runc and such a kernel do: it writes
what the container's specification has into the container's cgroup, here a folder, before runc makes
the container and runs anything in it.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.standalone.node import StandaloneNode
from tests.rig import Rig, run_command

MEMORY = "amd.com/gpu-memory"
GIB = 1 << 30
_RUNC = """#!/usr/bin/env python3
import json, os, sys
words = sys.argv[1:]
if "create" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    spec = json.load(open(path))
    files = spec["linux"].get("resources", {}).pop("unified", None) or {}
    name = spec["linux"]["cgroupsPath"].strip("/")
    known = "@TREE@/dmem.capacity"
    regions = {line.split()[0] for line in open(known)}
    folder = os.path.join("@TREE@", name)
    for file, text in files.items():
        if {line.split()[0] for line in text.splitlines()} - regions:
            sys.exit(f"failed to write {file}: invalid argument")
        os.makedirs(folder, exist_ok=True)
        open(os.path.join(folder, file), "w").write(text + "\\n")
    json.dump(spec, open(path, "w"))
os.execvp("runc", ["runc", *words])
"""
_CONTAINERD = """
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = "{socket}"
  plugin_path = "{root}/c/nri"
  plugin_config_path = "{root}/c/nri"
"""
_CONFIG = """
enforcement: {memory: nri}
isolation: memory
rules:
- match: {vendor: amd}
  offers: [{memory: {unit: 1GiB}}]
- offers: [exclude]
"""


@pytest.fixture
async def node(programs: tuple[str, str], rig: Rig) -> AsyncIterator[StandaloneNode]:
    """A node where AMD's GPUs are offered by the GiB, and only if the limit holds."""
    tree, socket = rig.host_root / "sys/fs/cgroup", rig.host_root / "var/run/nri/nri.sock"
    socket.parent.mkdir(parents=True)
    runc = rig.root / "runc"
    runc.write_text(_RUNC.replace("@TREE@", str(tree)))
    runc.chmod(0o755)
    more = _CONTAINERD.format(runc=runc, socket=socket, root=rig.root)
    node = StandaloneNode(rig, *programs, more)
    try:
        _write_tree(tree, [d["pci_address"] for d in node.devices.values() if _is_amd(d)])
        await node.start_programs("--config", str(rig.config(_CONFIG)))
        yield node
    finally:
        node.close()


def _is_amd(device: dict[str, object]) -> bool:
    return device["vendor"] == "amd" and device["parent"] is None


def _write_tree(tree: Path, addresses: list[str]) -> None:
    (tree / "kubepods").mkdir(parents=True)
    for place in (tree, tree / "kubepods"):
        (place / "cgroup.controllers").write_text("cpu memory dmem\n")
        (place / "cgroup.subtree_control").write_text("cpu memory dmem\n")
    lines = [f"drm/{address}/vram {64 * GIB}\n" for address in sorted(addresses)]
    (tree / "dmem.capacity").write_text("".join(lines))


def limits(node: StandaloneNode, container: str) -> list[str]:
    """What is in the container's cgroup."""
    tree = node.rig.host_root / "sys/fs/cgroup"
    (found,) = [path for path in tree.rglob("dmem.max") if path.parent.name == container]
    return found.read_text().split()


async def test_a_container_has_its_limit_before_its_first_instruction(node: StandaloneNode) -> None:
    async def offered() -> bool:
        return bool((await node.kubelet.allocatable()).get(MEMORY))

    await node.until(offered, "slices that hold")
    node.add_pod("pod", {MEMORY: 3})
    container = await node.running("pod")
    inside = node.look_inside(container)
    (device, amount) = inside.environment["GPU_SHARE_MEMORY_BYTES"].split("=")
    address = node.devices[device]["pci_address"]
    assert int(amount) == 3 * GIB
    assert limits(node, container) == [f"drm/{address}/vram", str(3 * GIB)]
    assert inside.environment["GPU_SHARE_ISOLATION"] == "memory"
    assert json.loads(_discovered(node))["sharing"][MEMORY]["isolation"] == "memory"


async def test_a_restarted_daemon_finds_the_limits_of_containers_that_run(
    node: StandaloneNode,
) -> None:
    async def offered() -> bool:
        return bool((await node.kubelet.allocatable()).get(MEMORY))

    await node.until(offered, "slices that hold")
    node.add_pod("pod", {MEMORY: 2})
    container = await node.running("pod")
    before = limits(node, container)
    (daemon,) = node.rig.daemons
    daemon.kill()
    again = node.rig.start("--config", str(node.rig.config(_CONFIG)))
    await again.wait_event("nri_connected")
    await again.wait_event("memory_limits_in_force")
    assert limits(node, container) == before
    assert await node.running("pod") == container


def _discovered(node: StandaloneNode) -> str:
    directory = ("--state-dir", str(node.rig.state_dir))
    return run_command("discover", "--format", "json", *directory).stdout
