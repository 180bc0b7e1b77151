"""A node for tests: GPUs of three vendors on a tree, and around the daemon real programs."""

import asyncio
import errno
import functools
import json
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.testing.amd import DEMO_GPUS, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from tests.e2e.standalone.image import IMAGE, write_image
from tests.e2e.standalone.kubelet import Containerd, Kubelet
from tests.e2e.standalone.sandbox import Node, Sandbox
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, MIG_1G, MIG_2G, MIG_3G, Rig, nvidia_node, run_command

AMD, INTEL = "amd.com/gpu", "intel.com/gpu"
CAPACITY = {GPU: 6, MIG_1G: 9, MIG_2G: 1, MIG_3G: 1, AMD: 9, INTEL: 1}
WAIT_S = 60.0
_POLL_S = 0.05  # a kubelet tells no one outside when something changed
_EXPERIMENTAL_MAJOR = 120  # no driver of any machine has it
_CONTROLLERS = Path("/sys/fs/cgroup")


class Inside(Struct, frozen=True):
    """What a program in a container sees: variables, nodes, and why a node cannot be opened."""

    environment: Mapping[str, str]
    nodes: Mapping[str, tuple[int, int]]
    errors: Mapping[str, str]


class StandaloneNode:
    """`rig` with a real kubelet and containerd instead of the stub; its daemon runs outside."""

    def __init__(self, rig: Rig, kubelet: str, containerd: str, more: str = "") -> None:
        """Write the GPUs and make the sandbox; `start` starts the programs. `more` is added to the
        configuration of containerd."""
        self.rig = rig
        self.nvml: NvmlDouble = nvidia_node(rig)
        # On buses that the NVIDIA GPUs leave free.
        gpus = [replace(gpu, address=f"0000:a{n}:00.0") for n, gpu in enumerate(DEMO_GPUS)]
        write_amd_node(rig.host_root, gpus)
        write_intel_node(rig.host_root, replace(B60, card=60, render=190))
        self.cgroup = rig.root.name
        self.shared = rig.root / "shared"  # in every container
        self.shared.mkdir()
        self.sandbox = Sandbox(rig.root)
        self.nodes = _nodes(rig.host_root)
        self.sandbox.make_nodes(self.nodes.values())
        self.containerd = Containerd(self.sandbox, rig.root, containerd, more)
        self.kubelet = Kubelet(self.sandbox, rig.root, kubelet, self.cgroup)

    async def start(self) -> None:
        """Bring up containerd, the kubelet and the daemon; until every device can be allocated."""
        await self.start_programs()
        await self.all_allocatable()

    async def start_programs(self, *arguments: str) -> None:
        """The same without waiting for devices; `arguments` are the daemon's."""
        await self.until(self.containerd.listens, "containerd listens")
        image = self.rig.root / "image.tar"
        write_image(image)
        self.containerd.ctr("images", "import", str(image))
        self.kubelet.start()
        self.rig.start(*arguments)

    def close(self) -> None:
        """End everything inside; the machine is as it was."""
        # Without cgroups of its own for pods the kubelet leaves their place to containerd.
        left = [self.cgroup, *(f"k8s.io/{name}" for name in self.containerd.containers())]
        self.sandbox.close()
        for path in (found for name in left for found in _cgroups(name)):
            _remove_cgroup(path)

    async def restart_kubelet(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the kubelet and start it again, until every device can be allocated."""
        assert self.kubelet.service is not None
        await asyncio.to_thread(self.kubelet.service.stop, number)
        self.kubelet.start()
        await self.all_allocatable()

    async def allocatable(self, wanted: Mapping[str, int]) -> None:
        """Until the kubelet can allocate exactly so many devices of each resource."""

        async def reached() -> bool:
            found = await self.kubelet.allocatable()
            return {name: len(ids) for name, ids in found.items()} == wanted

        await self.until(reached, f"allocatable {wanted}")

    async def all_allocatable(self) -> None:
        """Until nothing is missing."""
        await self.allocatable(CAPACITY)

    def add_pod(self, name: str, limits: Mapping[str, int], init_until: str = "") -> None:
        """A static pod with container `main`, before it `init` if there is a path it waits for."""
        main = self._container("main", limits)
        inits = [self._container("init", limits) | {"args": ["until", init_until]}]
        volume = {"name": "shared", "hostPath": {"path": str(self.shared)}}
        spec = {
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 1,
            "initContainers": inits if init_until else [],
            "containers": [main],
            "volumes": [volume],
        }
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        aside = self.rig.root / f"{name}.json"
        aside.write_text(json.dumps(manifest))
        aside.rename(self.kubelet.manifests / aside.name)

    def let_go(self, name: str) -> None:
        """End what runs `probe until /shared/NAME`."""
        (self.shared / name).touch()

    async def running(self, pod: str, container: str = "main") -> str:
        """Until a container runs; its id."""
        await self.until(lambda: self.container_id(pod, container), f"{pod}/{container} runs")
        return self.container_id(pod, container)

    def container_id(self, pod: str, container: str = "main") -> str:
        """The id of a running container, "" where it does not run."""
        status = self.statuses(pod).get(container, {})
        if "running" not in status.get("state", {}):
            return ""
        return str(status["containerID"]).removeprefix("containerd://")

    def statuses(self, pod: str) -> dict[str, dict[str, Any]]:
        """The status of each container of a pod, init containers too, as far as there is one."""
        status = self.kubelet.pods().get(pod, {}).get("status", {})
        every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return {entry["name"]: entry for entry in every}

    def phase(self, pod: str) -> str:
        """Pending, Running, Succeeded or Failed; "" for a pod the kubelet does not know yet."""
        return str(self.kubelet.pods().get(pod, {}).get("status", {}).get("phase", ""))

    def look_inside(self, container_id: str) -> Inside:
        """Run `probe show` in a container."""
        words = [line.split(" ") for line in self.probe(container_id, "show").splitlines()]
        environment = dict(" ".join(line[1:]).split("=", 1) for line in words if line[0] == "env")
        nodes, errors = {}, {}
        for _, path, number, error in (line for line in words if line[0] == "node"):
            major, _, minor = number.partition(":")
            nodes[path] = (int(major), int(minor))
            errors[path] = errno.errorcode.get(int(error), "")
        return Inside(environment, nodes, errors)

    def probe(self, container_id: str, verb: str, *arguments: str) -> str:
        """What the probe writes that is run in a container."""
        name = f"probe-{time.monotonic_ns()}"
        command = ("/probe", verb, f"/shared/{name}", *arguments)
        self.containerd.ctr("tasks", "exec", "--exec-id", name, container_id, *command)
        return (self.shared / name).read_text()

    def gpu_nodes(self, inside: Inside) -> dict[str, tuple[int, int]]:
        """The nodes of simulated hardware in a container."""
        return {path: n for path, n in inside.nodes.items() if n[0] == _EXPERIMENTAL_MAJOR}

    @functools.cached_property
    def devices(self) -> dict[str, dict[str, Any]]:
        """What `deviceplugin discover` says of each device, by its id."""
        found = run_command("discover", "--format", "json", "--host-root", str(self.rig.host_root))
        return {device["id"]: device for device in json.loads(found.stdout)["devices"]}

    async def until(self, condition: Callable[[], object | Awaitable[object]], what: str) -> None:
        """Wait until `condition` is true; TimeoutError with the logs of all programs."""
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    if await _value(condition):
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise TimeoutError(f"not within {WAIT_S:.0f} s: {what}\n{self._logs()}") from error

    def _container(self, name: str, limits: Mapping[str, int]) -> dict[str, Any]:
        return {
            "name": name,
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "resources": {"limits": dict(limits)},
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        }

    def _logs(self) -> str:
        logs = [self.containerd.service.tail()]
        if self.kubelet.service is not None:
            logs.append(self.kubelet.service.tail())
        logs += [daemon.log_path.read_text()[-4000:] for daemon in self.rig.daemons]
        return "\n---\n".join(logs)


async def _value(condition: Callable[[], object | Awaitable[object]]) -> object:
    value = condition()
    return await value if isinstance(value, Awaitable) else value


def _nodes(host_root: Path) -> dict[str, Node]:
    """A node for each file of the tree's /dev, each with a number of its own."""
    files = sorted(path for path in (host_root / "dev").rglob("*") if path.is_file())
    paths = [f"/{path.relative_to(host_root)}" for path in files]
    return {path: Node(path, _EXPERIMENTAL_MAJOR, minor) for minor, path in enumerate(paths)}


def _cgroups(name: str) -> list[Path]:
    """The cgroup of each controller (version 1), or the one (version 2)."""
    found = [*_CONTROLLERS.glob(f"*/{name}"), _CONTROLLERS / name]
    return [path for path in found if path.is_dir()]


def _remove_cgroup(path: Path) -> None:
    """Remove a cgroup without processes, and those below it."""
    for below in path.iterdir():
        if below.is_dir():
            _remove_cgroup(below)
    path.rmdir()
