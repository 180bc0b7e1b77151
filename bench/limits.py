"""`python -m bench.limits`: by how much a container with a slice starts later.

A runtime's question about a new container, from its first byte to the last one of the answer, as
the daemon's loop answers it; without slices and with them.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.runtime.tables import table
from tests.enforcement.builders import World
from tests.enforcement.kernel import AMD, GIB, KernelTree
from tests.enforcement.runtime import Runtime

CONTAINERS = 500
TARGET_MS = 5.0
LIMIT = {"memory.deviceplugin/amd.com_gpu-memory": f"{AMD} {4 * GIB}"}


async def answers(annotations: dict[str, str]) -> list[float]:
    """Milliseconds of each question."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kernel = KernelTree(root / "sys/fs/cgroup")
        kernel.make("kubepods/burstable")
        kernel.tree.enable()
        runtime = Runtime(root / "var/run/nri/nri.sock", kernel)
        await runtime.start()
        enforcer = World(root).enforcer(EnforcementSection(memory="nri"))
        running = asyncio.create_task(enforcer.run())
        await runtime.registered.wait()
        try:
            return [await _one(runtime, annotations, number) for number in range(CONTAINERS)]
        finally:
            running.cancel()
            await asyncio.wait({running})
            await runtime.stop()


async def _one(runtime: Runtime, annotations: dict[str, str], number: int) -> float:
    pod = ("ml", "pod", f"{number:036d}")
    before = time.perf_counter()
    await runtime.asked(f"kubepods/{number:064x}", annotations, pod)
    return (time.perf_counter() - before) * 1000


def main() -> None:
    """Print the medians and the 99th percentiles."""
    rows = []
    for name, annotations in (("without a slice", {}), ("with a slice", LIMIT)):
        times = asyncio.run(answers(annotations))
        last = statistics.quantiles(times, n=100)[98]
        shown = f"{statistics.median(times):.2f} ms, p99 {last:.2f} ms"
        rows.append((f"start of a container {name}, later by", shown, f"< {TARGET_MS:.0f} ms"))
    sys.stdout.write(table(("WHAT", "MEASURED", "TARGET (MEDIAN)"), rows) + "\n")


if __name__ == "__main__":
    main()
