"""NVML in this process and in one of its own, and how fast faults are over:
`python -m bench.library`.

The library is the tests' C double. A recovery is timed from the moment at which the library behaves
again until the kubelet has every device Healthy, without `health.hold_s`, which grows with each
return; of a child that dies idle, until the next starts.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from deviceplugin.host import Host
from deviceplugin.runtime.tables import table
from deviceplugin.vendors.nvidia import create
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, DaemonProcess, Rig, nvidia_node

CALLS, ROUNDS = 100, 5
ALL = {GPU: 6, "nvidia.com/mig-1g.5gb": 9, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-3g.20gb": 1}
NONE = dict.fromkeys(ALL, 0)
WAIT_S = 90.0

Row = tuple[str, str]


def measure_calls() -> list[Row]:
    """Discoveries and probes of eight GPUs, two of them cut into eleven instances."""
    rows = []
    for child in (False, True):
        with tempfile.TemporaryDirectory(prefix="b") as directory:
            rig = Rig(Path(directory))
            nvidia_node(rig)
            settings = NvidiaSection(library_process=child)
            vendor = create(Host(rig.host_root), {"nvidia": settings, "mig": MigSection()})
            rows += _calls(vendor, "in a child" if child else "in this process")
            vendor.close()
    return rows


def _calls(vendor: NvidiaVendor, where: str) -> list[Row]:
    first_s = _seconds(vendor.discover)
    again_ms = 1000 * statistics.median(_seconds(vendor.discover) for _ in range(CALLS))
    gpu = vendor.discover().devices[0]
    probe_ms = 1000 * statistics.median(
        _seconds(lambda: vendor.probe_health(gpu)) for _ in range(CALLS)
    )
    rows = [
        (f"first discovery, {where}", f"{1000 * first_s:.0f} ms"),
        (f"discovery, {where}, median of {CALLS}", f"{again_ms:.1f} ms"),
        (f"probe of a GPU, {where}, median of {CALLS}", f"{probe_ms:.2f} ms"),
    ]
    for child in psutil.Process().children():
        memory = child.memory_full_info()
        figure = f"{memory.rss / (1 << 20):.1f} MiB resident, {memory.uss / (1 << 20):.1f} its own"
        rows.append(("memory of the child", figure))
    return rows


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@asynccontextmanager
async def _serving(child: bool) -> AsyncIterator[tuple[Rig, NvmlDouble, DaemonProcess]]:
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        rig = Rig(Path(directory))
        double = nvidia_node(rig)
        await rig.stub.start()
        nvidia = f"nvidia: {{library_process: {str(child).lower()}}}"
        config = f"{nvidia}\nhealth: {{hold_s: 0, flap_limit: 100}}"
        daemon = rig.start("--config", str(rig.config(config)))
        try:
            await rig.allocatable(ALL, WAIT_S)
            yield rig, double, daemon
        finally:
            daemon.kill()
            await rig.stub.aclose()


async def measure_recoveries() -> list[Row]:
    """A child that dies idle; a look that crashes or hangs until it is mended."""
    async with _serving(child=True) as (rig, double, daemon):
        rows = [
            await _dying(daemon),
            await _mended(rig, double, "a crash in a look", _crash),
            await _mended(rig, double, "a hang in a look, in a child", _hang),
        ]
    async with _serving(child=False) as (rig, double, _):
        return [*rows, await _mended(rig, double, "a hang in a look, in the daemon", _hang)]


def _crash(double: NvmlDouble) -> None:
    double.crash("nvmlDeviceGetMemoryInfo")


def _hang(double: NvmlDouble) -> None:
    double.hang("nvmlDeviceGetMemoryInfo")


async def _dying(daemon: DaemonProcess) -> Row:
    spent = []
    for number in range(1, ROUNDS + 1):
        started = time.perf_counter()
        psutil.Process(daemon.events("library_process_started")[-1]["pid"]).kill()
        while len(daemon.events("library_process_started")) == number:  # noqa: ASYNC110  # a log
            await asyncio.sleep(0.005)
        spent.append(time.perf_counter() - started)
        await asyncio.sleep(8)  # it waits for events again
    return _row("a child that dies idle", spent)


async def _mended(
    rig: Rig, double: NvmlDouble, name: str, spoil: Callable[[NvmlDouble], None]
) -> Row:
    spent = []
    for _ in range(ROUNDS):
        spoil(double)
        await rig.allocatable(NONE, WAIT_S)
        started = time.perf_counter()
        double.clear_faults()
        await rig.allocatable(ALL, WAIT_S)
        spent.append(time.perf_counter() - started)
    return _row(name, spent)


def _row(name: str, spent: list[float]) -> Row:
    figure = f"{statistics.median(spent):.2f} s, longest {max(spent):.2f} s"
    return (f"recovery from {name}, median of {ROUNDS}", figure)


def main() -> None:
    """Print the figures."""
    rows = [*measure_calls(), *asyncio.run(measure_recoveries())]
    sys.stdout.write(table(("WHAT", "MEASURED"), rows) + "\n")


if __name__ == "__main__":
    main()
