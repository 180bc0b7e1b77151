"""What measuring costs: `python -m bench.telemetry [--processes N] [--flat SECONDS]`.

A node of 8 H100 in 7 MIG instances each, N processes on each GPU, in 56 pods; one daemon that
measures all of it every second, and beside it one that measures nothing. Library and processes are
doubles: what they take is counted as the daemon's.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from msgspec import Struct
from msgspec.structs import replace

from bench.daemon import processor_s
from bench.nodes import SHIPPED
from deviceplugin.runtime.tables import table
from tests.fakes.nvml import NvmlDouble, Scenario, h100_80gb, write_host_tree
from tests.fakes.nvml.model import Gpm, Gpu, Process
from tests.rig import DaemonProcess, Rig, fetch

GPUS, INSTANCES, PROFILE = 8, 7, "1g.10gb"
RESOURCE = f"nvidia.com/mig-{PROFILE}"
SCRAPES = 40
SETTLE_S = 15.0
ROUNDS_S = 30.0
LEAST_S = 0.05  # between two scrapes: no more are made, others get the same text again
ON = "telemetry: {enabled: true, interval_s: 1, processes: true}\nmetrics: {pods: true}\n"
OFF = "metrics: {pods: true}\n"
_MIB = 1 << 20


class Costs(Struct):
    """Of one daemon: processor seconds a second, resident MiB, and MiB that no other shares."""

    busy: float
    rss: float
    own: float


def node(root: Path, processes: int) -> None:
    """The GPUs, their instances, and what runs on them."""
    gpus = tuple(h100_80gb(index) for index in range(GPUS))
    double = NvmlDouble(root, scenario=Scenario(gpus=gpus))
    for index in range(GPUS):
        double.set_mig(index, [PROFILE] * INSTANCES)
    for index, gpu in enumerate(double.scenario.gpus):
        parts = [(mig.gi, mig.ci) for mig in gpu.mig]
        first = 1000 * (index + 1)
        running = tuple(
            Process(pid=first + n, memory=n * _MIB, gi=gi, ci=ci)
            for n in range(processes)
            for gi, ci in [parts[n % INSTANCES]]
        )
        counters = tuple(
            Gpm(metric=metric, value=50_000, gi=gi)
            for gi in (None, *(gi for gi, _ in parts))
            for metric in (1, 2, 5, 10)
        )
        changed = replace(gpu, processes=running, gpm=counters, event_types=None)
        double.update_gpu(index, _const(changed))
        for n in range(processes):
            _process(root, first + n, index * INSTANCES + n % INSTANCES)
    write_host_tree(root, double.scenario)


def _const(gpu: Gpu) -> Callable[[Gpu], Gpu]:
    return lambda _: gpu


def _process(root: Path, pid: int, pod: int) -> None:
    uid = f"{pod:08x}-1111-2222-3333-444455556666"
    folder = root / f"proc/{pid}"
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} (python) S " + " ".join(["0"] * 50) + "\n")
    (folder / "status").write_text("Name:\tpython\n")
    (folder / "cmdline").write_text("")
    (folder / "cgroup").write_text(f"0::/kubepods/pod{uid}/{'c' * 64}\n")
    (root / f"var/log/pods/team_trainer-{pod}_{uid}/main").mkdir(parents=True, exist_ok=True)


@asynccontextmanager
async def serving(processes: int, config: str) -> AsyncIterator[DaemonProcess]:
    """A daemon on a node of its own."""
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        rig = Rig(Path(directory))
        node(rig.host_root, processes)
        (rig.host_root / "proc/stat").write_text("btime 1700000000\n")
        await rig.stub.start()
        daemon = rig.start("--config", str(rig.config(config)), **SHIPPED)
        try:
            await rig.stub.wait_registered(RESOURCE, timeout_s=60)
            yield daemon
        finally:
            daemon.kill()
            await rig.stub.aclose()


async def measure(processes: int) -> list[tuple[str, str, str]]:
    """All rows: what, figure, target."""
    async with serving(processes, ON) as on, serving(processes, OFF) as off:
        await on.shows(r"^deviceplugin_gpu_pod_memory_used_bytes\{")
        await asyncio.sleep(SETTLE_S)
        began = [processor_s(psutil.Process(daemon.pid)) for daemon in (on, off)]
        await asyncio.sleep(ROUNDS_S)
        costs = [_costs(daemon, before) for daemon, before in zip((on, off), began, strict=True)]
        spent, size = await asyncio.to_thread(_scrapes, await _address(on))
    round_ms = 1000 * (costs[0].busy - costs[1].busy)
    more = costs[0].rss - costs[1].rss, costs[0].own - costs[1].own
    took = f"{statistics.median(spent):.1f} ms, best {min(spent):.1f} ms"
    what = f"{GPUS * processes} processes"
    return [
        (f"{what}: a scrape of {size / 1000:.0f} kB, median of {SCRAPES}", took, "< 20 ms"),
        (f"{what}: processor time of a round of samples", f"{round_ms:.1f} ms", "< 50 ms"),
        (
            f"{what}: memory above a daemon that measures nothing",
            f"{more[0]:.1f} MiB ({costs[0].rss:.1f} and {costs[1].rss:.1f}), {more[1]:.1f} its own",
            "<= 6 MiB",
        ),
    ]


async def _address(daemon: DaemonProcess) -> str:
    return str((await daemon.wait_event("metrics_served"))["address"])


def _costs(daemon: DaemonProcess, before_s: float) -> Costs:
    process = psutil.Process(daemon.pid)
    memory = process.memory_full_info()
    busy = (processor_s(process) - before_s) / ROUNDS_S
    return Costs(busy, memory.rss / _MIB, memory.uss / _MIB)


def _scrapes(address: str) -> tuple[list[float], int]:
    """Milliseconds of each, and the size of the last."""
    spent, text = [], ""
    for _ in range(SCRAPES):
        time.sleep(10 * LEAST_S)
        started = time.perf_counter()
        _, text = fetch(f"http://{address}/metrics")
        spent.append(1000 * (time.perf_counter() - started))
    return spent, len(text)


async def flat(processes: int, seconds: float) -> tuple[str, str, str]:
    """Memory in the second and in the last quarter of the time, at one sample a second."""
    async with serving(processes, ON) as daemon:
        await daemon.shows(r"^deviceplugin_gpu_pod_memory_used_bytes\{")
        process, ends_s, found = psutil.Process(daemon.pid), time.monotonic() + seconds, []
        address = await _address(daemon)
        while time.monotonic() < ends_s:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(fetch, f"http://{address}/metrics")
            found.append(process.memory_info().rss / _MIB)
    quarter = len(found) // 4
    first, last = min(found[quarter : 2 * quarter]), min(found[-quarter:])
    what = f"resident memory over {seconds:.0f} s, second and last quarter"
    return (what, f"{first:.1f} MiB, {last:.1f} MiB", "flat")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="*", default=[20, 20 * INSTANCES])
    parser.add_argument("--flat", type=float, default=0.0, help="seconds of a look at memory")
    arguments = parser.parse_args()
    rows = []
    for processes in arguments.processes:
        rows += asyncio.run(measure(processes))
    if arguments.flat:
        rows.append(asyncio.run(flat(arguments.processes[0], arguments.flat)))
    sys.stdout.write(table(("WHAT", "MEASURED", "TARGET"), rows) + "\n")


if __name__ == "__main__":
    main()
