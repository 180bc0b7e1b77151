"""The demo's story: registration, an allocation, events of the hardware, a kubelet restart."""

import asyncio
import math
import random
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import click
from msgspec.structs import replace

from deviceplugin.config.config import Config, address_text
from deviceplugin.daemon.assembly import assemble
from deviceplugin.daemon.core import Start
from deviceplugin.demo.picture import picture
from deviceplugin.demo.scenario import Scenario, Step
from deviceplugin.runtime.control import ask_daemon
from deviceplugin.runtime.tables import table
from deviceplugin.testing.kubelet import KubeletStub

WAIT_S = 60.0
NEXT = """
What to do next:
  deviceplugin demo --keep             the same node, left running, with its page
  deviceplugin demo --scenario amd     other nodes: nvidia, amd, intel, partitions
  deviceplugin discover                this machine's own GPUs
  docs/start.md                        from here to a pod with a GPU, in five minutes"""


async def run_demo(scenario: Scenario, *, keep: bool) -> None:
    """Show registration, capacity, an allocation, a failure and a kubelet restart.

    Raises TimeoutError if a step does not happen.
    """
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu"))
        root = Path(directory)
        _say(f"Simulated node: {scenario.title} (nothing here is real hardware)")
        node = scenario.prepare(root / "host")
        stub = await stack.enter_async_context(KubeletStub(root / "kubelet"))
        seed = random.getrandbits(32)
        address = ("127.0.0.1", _free_port()) if keep else None
        config = replace(_config(root, address), sections=node.sections)
        start = Start(config=config, vendors=node.vendors, now=time.time, seed=seed)
        task = asyncio.create_task(assemble(start).run())
        stack.push_async_callback(_stop, task)
        await _registration(stub, scenario)
        await _drawing(config)
        await _allocation(stub, "trainer", scenario.request)
        for step in node.steps:
            await _step(stub, step)
        await _kubelet_restart(
            stub, replace(scenario, capacity=scenario.after or scenario.capacity)
        )
        if keep:
            await _wait_for_ctrl_c(config)
    _say("Done: the daemon ended its streams and removed its sockets.")
    click.echo(NEXT)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _config(root: Path, address: tuple[str, int] | None) -> Config:
    """Nobody looks at a page that is gone in a second: it is there with --keep."""
    return Config(
        node_name="demo",
        host_root=root / "host",
        kubelet_dir=root / "kubelet",
        cdi_dir=root / "cdi",
        state_dir=root / "state",
        metrics_address=address,
    )


async def _registration(stub: KubeletStub, scenario: Scenario) -> None:
    started = time.perf_counter()
    await stub.wait_registered(*scenario.capacity, timeout_s=WAIT_S)
    await stub.wait_for(lambda: _complete(stub, scenario), timeout_s=WAIT_S, what="full lists")
    spent_ms = 1000 * (time.perf_counter() - started)
    _say(f"Registered with the kubelet stub over a unix socket in {spent_ms:.0f} ms:")
    _show_capacity(stub)


def _complete(stub: KubeletStub, scenario: Scenario) -> bool:
    return scenario.capacity.items() <= stub.allocatable().items()


async def _drawing(config: Config) -> None:
    status = await asyncio.to_thread(ask_daemon, config.state_dir, {"operation": "status"})
    _say("The node, as the daemon sees it:")
    click.echo(picture(status))


async def _allocation(stub: KubeletStub, pod: str, request: Mapping[str, int]) -> None:
    wish = ", ".join(f"{name}: {count}" for name, count in request.items())
    _say(f"A pod asks for {wish}; its container gets:")
    await stub.admit(pod, {"main": request})
    given = stub.merged(pod, "main")
    rows = [("env", f"{name}={value}") for name, value in sorted(given.envs.items())]
    rows += [("device", f"{path} ({node.permissions})") for path, node in given.devices.items()]
    rows += [("mount", f"{mount.host_path} at {path}") for path, mount in given.mounts.items()]
    rows += [("cdi", str(name)) for name in given.cdi_devices]
    click.echo(table(("KIND", "VALUE"), rows))


async def _step(stub: KubeletStub, step: Step) -> None:
    before = stub.allocatable()
    started = time.perf_counter()
    _say(f"Simulated: {step.text}")
    step.act()
    await stub.wait_for(
        lambda: step.allocatable.items() <= stub.allocatable().items(),
        timeout_s=WAIT_S,
        what=step.text,
    )
    spent_s = time.perf_counter() - started
    for name, count in step.allocatable.items():
        click.echo(f"allocatable {name} {before.get(name, 0)} -> {count}")
    click.echo(f"{spent_s:.2f} s after it happened")
    _explain_capacity(stub)
    if step.request:
        await _allocation(stub, "bystander", step.request)


async def _kubelet_restart(stub: KubeletStub, scenario: Scenario) -> None:
    _say("The kubelet restarts and wipes its sockets:")
    await stub.restart()
    await stub.wait_for(lambda: _complete(stub, scenario), timeout_s=WAIT_S, what="full lists")
    spent_ms = 1000 * (time.monotonic() - (stub.started_at_s or math.nan))
    click.echo(f"every resource is registered and listed again {spent_ms:.0f} ms after its socket")
    killed = await stub.readmit_all()
    click.echo(f"pods killed by the restart: {len(killed)}")
    _show_capacity(stub)


async def _wait_for_ctrl_c(config: Config) -> None:
    state, address = config.state_dir, config.metrics_address
    _say(f"Kept running below {state.parent}; Ctrl-C ends it. Look at the node:")
    if address is not None:
        click.echo(f"  http://{address_text(address)}/")
    click.echo(f"  deviceplugin status --watch --state-dir {state}")
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
    _explain_capacity(stub)


def _explain_capacity(stub: KubeletStub) -> None:
    """Nobody expects a node to count what it cannot give."""
    allocatable = stub.allocatable()
    more = [name for name, count in stub.capacity().items() if count > allocatable[name]]
    if more:
        click.echo(
            f"Capacity of {', '.join(sorted(more))} counts what is Unhealthy, and ids of devices\n"
            "that are gone: these stay until no pod can hold them any more (about two minutes)."
        )


def _say(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
