"""What claims cost: planning slices, Prepare, slices published again, memory.

In one process, with the stubs of the kubelet and the API server.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from deviceplugin.dra.slices import Offered
from deviceplugin.testing.dra import ClaimName
from tests.dra.simulated import Simulated, simulated, until
from tests.dra.test_partitions import a_gpu, offers, plan

PLANS, CALLS, RESTARTS = 200, 200, 20
_MEMORY = """
import deviceplugin.daemon.assembly, deviceplugin.run
def rss():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
before = rss()
import deviceplugin.dra.node, ssl
ssl.create_default_context()
print(f"{rss() - before:.1f} MiB")
"""


def main() -> None:
    """Print each figure."""
    print(f"8 GPUs x 7 places planned: {_planned(1)}")  # the profile of seven
    print(f"8 GPUs, whole and in all 25 places, planned: {_planned(None)}")
    asyncio.run(_served())
    found = subprocess.run([sys.executable, "-c", _MEMORY], capture_output=True, check=True)
    print(f"modules of DRA and TLS beside a daemon without: {found.stdout.decode().strip()}")


def _planned(profiles: int | None) -> str:
    found: list[Offered] = []
    gpus = []
    for number in range(8):
        device, gpu = a_gpu(number=number)
        if gpu.mig is not None:
            gpu = replace(gpu, mig=replace(gpu.mig, profiles=gpu.mig.profiles[:profiles]))
        gpus.append((device, gpu))
    found = offers(*gpus)
    times = []
    for _ in range(PLANS):
        began = time.process_time()
        plan(found)
        times.append(time.process_time() - began)
    return _text(times)


async def _served() -> None:
    with tempfile.TemporaryDirectory(prefix="b") as root:
        async with simulated(Path(root), count=8) as node, node.registered() as driver:
            for count in (1, 8):
                names = [f"gpu-{number}" for number in range(count)]
                times = []
                for number in range(CALLS):
                    claim = ClaimName(uid=f"u-{count}-{number}", name="one")
                    node.api.allocate("one", claim.uid, names)
                    began = time.perf_counter()
                    await driver.prepare(claim)
                    times.append(time.perf_counter() - began)
                    await driver.unprepare(claim)
                print(f"Prepare of {count}: {_text(times)}")
        await _published(Path(root) / "again")


async def _published(root: Path) -> None:
    async with simulated(root) as node:
        times = [await _wiped(node) for _ in range(RESTARTS)]
    print(f"from a wipe and a registration to the slices published again: {_text(times)}")


async def _wiped(node: Simulated) -> float:
    node.api.wipe()
    began = time.perf_counter()
    async with node.registered():
        await until(lambda: len(node.api.devices) == len(node.store.current.devices))
        return time.perf_counter() - began


def _text(times: Sequence[float]) -> str:
    ordered = sorted(1000 * one for one in times)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


if __name__ == "__main__":
    main()
