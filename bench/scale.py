"""What the daemon costs by number of devices and vendors: `python -m bench.scale [--json FILE]`.

Prints Markdown tables; `python -m bench.plot` draws the JSON. The daemon is a process, the kubelet
is the plain one, the hardware is simulated.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct

from bench.calls import Timed, allocation, echo, preference, timed
from bench.nodes import GPUS, Bench, Node, many_resources, node_of, too_many, vendors_of
from bench.plainkubelet import Stream
from bench.scale_tables import report
from deviceplugin.runtime.control import ask_daemon
from tests.rig import DaemonProcess, fetch

SIZES = (8, 64, 512, 10_000, 60_000)
STARTS, RESTARTS, ROUNDS = 5, 10, 8
ALLOCATES, SCRAPES = 2000, 100
SETTLE_S, IDLE_S = 3.0, 15.0
STREAMS = (1, 10, 50)


class Running(Struct):
    """A daemon that serves a node, and the scratch directory beside it."""

    bench: Bench
    daemon: DaemonProcess
    directory: Path

    @property
    def resource(self) -> str:
        """The one resource of the node."""
        return next(iter(self.bench.kubelet.streams))

    @property
    def socket(self) -> Path:
        """Where that resource is served."""
        return self.bench.kubelet.socket(self.resource)


@asynccontextmanager
async def _serving(node: Node) -> AsyncIterator[tuple[Running, float]]:
    """A daemon on a node, and the seconds from its start to the last complete list."""
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        bench = Bench(Path(directory), node)
        await bench.kubelet.start()
        started = time.perf_counter()
        daemon = bench.start()
        try:
            listed = await bench.kubelet.listed(*node.sizes) if node.sizes else started
            yield Running(bench, daemon, Path(directory)), listed - started
            await bench.end(daemon)
        finally:
            daemon.kill()


async def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """All figures, as they go into the JSON file."""
    return {
        "sizes": [await _size(node_of(count)) for count in sizes],
        "fan_out": [await _fan_outs(count) for count in sizes],
        "vendors": [await _vendors(count) for count in range(4)],
        "refused": await _refused(),
    }


async def _size(node: Node) -> dict[str, Any]:
    """One number of devices: starts, lists, calls, memory."""
    _say(f"{node.devices} devices")
    starts = [await _start(node) for _ in range(STARTS)]
    async with _serving(node) as (running, _):
        cost = await _cost(running.daemon)
        again = [await _restart(running.bench) for _ in range(RESTARTS)]
        return {
            "devices": node.devices,
            "name": node.name,
            "start_s": statistics.median(starts),
            "list_bytes": len(running.bench.kubelet.streams[running.resource].message),
            "again_ms": 1000 * statistics.median(again),
            "again_worst_ms": 1000 * max(again),
            **cost,
            "calls": await asyncio.to_thread(_calls, running, node.devices),
        }


async def _start(node: Node) -> float:
    async with _serving(node) as (_, start_s):
        return start_s


async def _restart(bench: Bench) -> float:
    """From a new kubelet's socket to the list."""
    await bench.kubelet.stop()
    await asyncio.sleep(0.2)
    started = await bench.kubelet.start()
    return await bench.kubelet.listed(*bench.node.sizes) - started


def _calls(running: Running, devices: int) -> dict[str, Any]:
    """Both calls, each beside a bare server that gives the same answer to the same request."""
    ids = list(running.bench.kubelet.streams[running.resource].devices)
    eights = _groups(ids)
    few = max(60, min(1000, 2_000_000 // devices))
    cases: dict[str, tuple[str, Callable[[int], bytes], int]] = {
        "allocate_1": ("Allocate", lambda n: allocation([ids[n % len(ids)]]), ALLOCATES),
        "allocate_8": ("Allocate", lambda n: allocation(eights[n % len(eights)]), ALLOCATES),
    }
    for name, must, size in (("prefer_1", 0, 1), ("prefer_8", 0, 8), ("prefer_8_must_2", 2, 8)):
        asked = preference(ids, eights[-1][:must], size)
        cases[name] = ("GetPreferredAllocation", partial(_same, asked), few)
    return {name: _beside_echo(running, *case) for name, case in cases.items()}


def _same(request: bytes, _: int) -> bytes:
    """The n-th request is the first again."""
    return request


def _groups(ids: Sequence[str]) -> list[list[str]]:
    """Eight ids each that one container can get: slices of one GPU, else any."""
    eights = [list(ids[at : at + 8]) for at in range(0, len(ids) - 7, 8)]
    same = [eight for eight in eights if len({one.partition("-m")[0] for one in eight}) == 1]
    return same or eights


def _beside_echo(
    running: Running, method: str, requests: Callable[[int], bytes], calls: int
) -> dict[str, Any]:
    ours = timed(running.socket, method, requests, calls)
    bare_socket = running.directory / "echo.sock"
    with echo({method: ours.answer}, bare_socket):
        bare = timed(bare_socket, method, requests, calls)
    return {
        "calls": calls,
        "request_bytes": ours.request_bytes,
        **{f"{name}_ms": ours.at(quantile) for name, quantile in (("p50", 0.5), ("p99", 0.99))},
        "echo_p50_ms": bare.at(0.5),
        "echo_p99_ms": bare.at(0.99),
    }


async def _cost(daemon: DaemonProcess) -> dict[str, Any]:
    """Memory and idle processor time of the daemon with its children; the cost of a scrape."""
    processes = [psutil.Process(daemon.process.pid)]
    processes += processes[0].children(recursive=True)
    await asyncio.sleep(SETTLE_S)
    before = sum(_busy_s(process) for process in processes)
    await asyncio.sleep(IDLE_S)
    idle = (sum(_busy_s(process) for process in processes) - before) / IDLE_S
    memory = [process.memory_full_info() for process in processes]
    address = (await daemon.wait_event("metrics_served"))["address"]
    scrapes, size = await asyncio.to_thread(_scrapes, f"http://{address}/metrics")
    return {
        "rss_mib": sum(one.rss for one in memory) / (1 << 20),
        "pss_mib": sum(one.pss for one in memory) / (1 << 20),
        "idle_percent": 100 * idle,
        "scrape_bytes": size,
        "scrape_p50_ms": scrapes.at(0.5),
        "scrape_p99_ms": scrapes.at(0.99),
    }


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _scrapes(url: str) -> tuple[Timed, int]:
    spent, body = [], ""
    for _ in range(SCRAPES):
        started = time.perf_counter()
        body = fetch(url)[1]
        spent.append(time.perf_counter() - started)
    return Timed(spent=sorted(spent), answer=b"", request_bytes=0), len(body)


async def _fan_outs(devices: int) -> dict[str, Any]:
    """One fault to many streams: of one resource, and of eight."""
    _say(f"fan-out at {devices} devices")
    figures: dict[str, Any] = {"devices": devices}
    async with _serving(node_of(devices)) as (running, _):
        for count in STREAMS:
            (stream,) = running.bench.kubelet.streams.values()
            more = [Stream(stream.path, stream.changes) for _ in range(count - 1)]
            for one in more:
                one.open()
            figures[str(count)] = await _fan_out(running, [stream, *more])
            if more:  # the end of any stream lets the daemon register again, on a new one
                await asyncio.gather(*(one.close() for one in more))
                await _replaced(running, stream)
    if devices >= 2 * GPUS:
        async with _serving(many_resources(devices)) as (running, _):
            streams = list(running.bench.kubelet.streams.values())
            figures["resources_8"] = await _fan_out(running, streams)
    return figures


async def _replaced(running: Running, old: Stream) -> None:
    kubelet, name = running.bench.kubelet, running.resource
    await kubelet.changes.until(lambda: kubelet.streams[name] is not old)
    await kubelet.changes.until(lambda: kubelet.streams[name].message)


async def _fan_out(running: Running, streams: Sequence[Stream]) -> dict[str, float]:
    """Milliseconds from an operator's cordon of a GPU to the last stream's list."""
    changes, state = running.bench.kubelet.changes, running.bench.rig.state_dir
    await changes.until(lambda: all(stream.message for stream in streams))
    gpu = "0000:90:00.0"
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        cordon = {"operation": "cordon", "device": gpu, "reason": "measured"}
        await asyncio.to_thread(ask_daemon, state, cordon)
        await changes.until(lambda: all(stream.faulty for stream in streams))
        spent.append(max(stream.at_s for stream in streams) - started)
        await asyncio.to_thread(ask_daemon, state, {"operation": "uncordon", "device": gpu})
        await changes.until(lambda: not any(stream.faulty for stream in streams))
        await asyncio.sleep(0.2)  # out of the burst of the recovery
    return {"median_ms": 1000 * statistics.median(spent), "worst_ms": 1000 * max(spent)}


async def _vendors(count: int) -> dict[str, Any]:
    """Memory and idle processor time with the hardware of so many vendors."""
    node = vendors_of(count)
    _say(f"vendors: {node.name}")
    async with _serving(node) as (running, start_s):
        figures = await _cost(running.daemon)
    return {"vendors": count, "name": node.name, "start_s": start_s, **figures}


async def _refused() -> str:
    """What the daemon says of more ids than a kubelet takes."""
    async with _serving(too_many()) as (running, _):
        event = await running.daemon.wait_event("resource_refused")
        await running.daemon.wait_event("kubelet_listening")
    return f"{event['reason']}; {event['action']}"


def _say(text: str) -> None:
    sys.stderr.write(f"… {text}\n")


def main() -> None:
    """Measure, print the tables, and write the JSON where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--devices", type=int, nargs="+", default=SIZES, choices=SIZES)
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.devices))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write(report(figures))


if __name__ == "__main__":
    main()
