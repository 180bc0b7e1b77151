"""`deviceplugin demo`: the real daemon on a simulated node, told step by step.

Everything that is simulated comes from deviceplugin.testing; the daemon, its sockets and its
answers are the real ones.
"""

import asyncio
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from deviceplugin.config import Config, decode_sections
from deviceplugin.daemon import Daemon
from deviceplugin.host import Host
from deviceplugin.registry import load_vendors
from deviceplugin.tables import table
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.nvidia_node import NvidiaNode
from deviceplugin.vendor import Vendor

WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A simulated node: `prepare(root)` makes it, and gives its vendors and what can go wrong.

    `resources` are registered when the node serves; `request` is what the example pod asks for.
    """

    title: str
    prepare: Callable[[Path], "Node"]
    resources: tuple[str, ...]
    request: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Node:
    """What `prepare` made: the vendors, and how one device fails (`fail`) and recovers."""

    vendors: Sequence[Vendor]
    fail: Callable[[], str]
    recover: Callable[[], None]
    failing: str


def _nvidia(root: Path) -> Node:
    node = NvidiaNode(root)
    module = load_vendors(("nvidia",))[0]
    sections = decode_sections({"nvidia": {"pass_device_specs": True}}, module.SECTIONS)
    create = partial(module.create, open_library=node.open_library)  # type: ignore[call-arg]  # NVIDIA's own seam
    vendor = create(Host(root), sections)
    return Node([vendor], node.lose_gpu_3, node.recover_gpu_3, "nvidia.com/gpu")


SCENARIOS: Mapping[str, Scenario] = {
    "nvidia": Scenario(
        "8 NVIDIA A100, two of them cut into MIG instances",
        _nvidia,
        (
            "nvidia.com/gpu",
            "nvidia.com/mig-1g.5gb",
            "nvidia.com/mig-2g.10gb",
            "nvidia.com/mig-3g.20gb",
        ),
        {"nvidia.com/gpu": 2},
    ),
}


async def run_demo(scenario: Scenario, *, keep: bool) -> None:
    """Show registration, capacity, an allocation, a failure and a kubelet restart.

    Raises TimeoutError when a step does not come about.
    """
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu"))
        root = Path(directory)
        _say(f"Simulated node: {scenario.title} (nothing here is real hardware)")
        node = scenario.prepare(root / "host")
        stub = await stack.enter_async_context(KubeletStub(root / "kubelet"))
        daemon = Daemon(_config(root), node.vendors, time.time, random.getrandbits(32))
        task = asyncio.create_task(daemon.run())
        stack.push_async_callback(_stop, task)
        await _registration(stub, scenario)
        await _allocation(stub, scenario)
        await _failure(stub, node)
        await _kubelet_restart(stub, scenario)
        if keep:
            await _wait_for_ctrl_c(root)
    _say("Done: the daemon ended its streams and removed its sockets.")


def _config(root: Path) -> Config:
    return Config(
        node_name="demo",
        host_root=root / "host",
        kubelet_dir=root / "kubelet",
        cdi_dir=root / "cdi",
        state_dir=root / "state",
        metrics_address=None,
    )


async def _registration(stub: KubeletStub, scenario: Scenario) -> None:
    started = time.perf_counter()
    await stub.wait_registered(*scenario.resources, timeout_s=WAIT_S)
    await stub.wait_for(lambda: _complete(stub, scenario), timeout_s=WAIT_S, what="full lists")
    spent_ms = 1000 * (time.perf_counter() - started)
    _say(f"Registered with the kubelet stub over a unix socket in {spent_ms:.0f} ms:")
    _show_capacity(stub)


def _complete(stub: KubeletStub, scenario: Scenario) -> bool:
    return all(stub.capacity().get(name, 0) > 0 for name in scenario.resources)


async def _allocation(stub: KubeletStub, scenario: Scenario) -> None:
    wish = ", ".join(f"{name}: {count}" for name, count in scenario.request.items())
    _say(f"A pod asks for {wish}; its container gets:")
    await stub.admit("trainer", {"main": scenario.request})
    given = stub.merged("trainer", "main")
    rows = [("env", f"{name}={value}") for name, value in sorted(given.envs.items())]
    rows += [("device", f"{path} ({node.permissions})") for path, node in given.devices.items()]
    rows += [("mount", f"{mount.host_path} at {path}") for path, mount in given.mounts.items()]
    rows += [("cdi", str(name)) for name in given.cdi_devices]
    click.echo(table(("KIND", "VALUE"), rows))


async def _failure(stub: KubeletStub, node: Node) -> None:
    before = stub.allocatable()[node.failing]
    started = time.perf_counter()
    _say(node.fail())
    await stub.wait_for(
        lambda: stub.allocatable()[node.failing] < before, timeout_s=WAIT_S, what="unhealthy"
    )
    spent_s = time.perf_counter() - started
    click.echo(f"allocatable {before} -> {stub.allocatable()[node.failing]} after {spent_s:.2f} s")
    node.recover()
    await stub.wait_for(
        lambda: stub.allocatable()[node.failing] == before, timeout_s=WAIT_S, what="healthy again"
    )
    click.echo(f"It answers again: allocatable {stub.allocatable()[node.failing]}")


async def _kubelet_restart(stub: KubeletStub, scenario: Scenario) -> None:
    _say("The kubelet restarts and wipes its sockets:")
    await stub.restart()
    await stub.wait_for(lambda: _complete(stub, scenario), timeout_s=WAIT_S, what="full lists")
    spent_ms = 1000 * (time.monotonic() - (stub.started_at_s or math.nan))
    click.echo(f"every resource is registered and listed again {spent_ms:.0f} ms after its socket")
    killed = await stub.readmit_all()
    click.echo(f"pods killed by the restart: {len(killed)}")
    _show_capacity(stub)


async def _wait_for_ctrl_c(root: Path) -> None:
    _say(f"Kept running below {root}; Ctrl-C ends it.")
    await asyncio.Event().wait()


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


def _show_capacity(stub: KubeletStub) -> None:
    allocatable = stub.allocatable()
    rows = [
        (name, str(count), str(allocatable[name]))
        for name, count in sorted(stub.capacity().items())
    ]
    click.echo(table(("RESOURCE", "CAPACITY", "ALLOCATABLE"), rows))


def _say(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
