"""What claims cost: planning slices, Prepare, slices published again, memory.

In one process, with the stubs of the kubelet and the API server.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from msgspec.structs import replace

from bench.apiserver import api_server
from bench.nodes import SHIPPED
from deviceplugin.dra.slices import Offered
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.testing.dra import ClaimName
from tests.dra.simulated import Simulated, simulated, until
from tests.dra.test_partitions import a_gpu, offers, plan
from tests.rig import nvidia_node, rig_below

PLANS, CALLS, RESTARTS = 200, 200, 20
RESOURCES = 4
SETTLE_S = 10.0  # gRPC's threads come to rest
CLAIMS = "dra: {enabled: true, handover: true}"


def main() -> None:
    """Print each figure."""
    configure_logs("critical", "console")
    gc.collect()
    gc.freeze()  # as the daemon does when it serves
    print(f"8 GPUs x 7 places planned: {_planned(1)}")  # the profile of seven
    print(f"8 GPUs, whole and in all 25 places, planned: {_planned(None)}")
    asyncio.run(_served())
    asyncio.run(_memory())


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


async def _memory() -> None:
    """Two daemons of 8 GPUs, one with claims: resident memory after a rest."""
    without = "dra: {enabled: false}"
    await _resident(without)  # the first may compile its modules
    off, on = await _resident(without), await _resident(CLAIMS)
    print(f"resident memory: {off:.1f} MiB, with DRA {on:.1f} MiB: {on - off:.1f} MiB more")


async def _resident(config: str) -> float:
    """MiB of a daemon that has published what it should."""
    with tempfile.TemporaryDirectory(prefix="b") as root, api_server(Path(root)) as (api, path):
        async with rig_below(Path(root)) as rig:
            nvidia_node(rig)
            await rig.stub.start()
            daemon = rig.start("--config", str(rig.config(config)), **SHIPPED, KUBECONFIG=path)
            await rig.stub.wait_for(lambda: len(rig.stub.allocatable()) == RESOURCES, timeout_s=60)
            if config == CLAIMS:
                await until(lambda: bool(api.devices))
            await asyncio.sleep(SETTLE_S)
            return float(psutil.Process(daemon.pid).memory_info().rss) / (1 << 20)


def _text(times: Sequence[float]) -> str:
    ordered = sorted(1000 * one for one in times)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


if __name__ == "__main__":
    main()
