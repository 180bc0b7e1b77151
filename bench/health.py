"""How fast a fault reaches the kubelet, and what a storm of events costs: `python -m bench.health`.

The daemon is a process, NVML is the C double (which looks for events every 10 ms), the kubelet is
the stub; times are from the event's line in the double's file to the list at the kubelet.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from deviceplugin.runtime.control import ask_daemon
from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb
from tests.fakes.nvml.cards import gpu_uuid
from tests.fakes.nvml.host import write_host_tree
from tests.health.node import Node

RESOURCES = ("nvidia.com/mig-1g.5gb", "nvidia.com/mig-2g.10gb", "nvidia.com/mig-3g.20gb")
ROUNDS = 30
STORM_S, STORM_RATE = 10, 1000
LIMIT_S = 0.1


async def measure(base: Path) -> bool:
    """Both measurements; whether they keep what is promised."""
    double = NvmlDouble(base / "root", scenario=Scenario(gpus=tuple(map(a100_40gb, range(8)))))
    double.set_mig(7, ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"])
    write_host_tree(base / "root", double.scenario)
    async with KubeletStub(base / "k") as kubelet:
        node = Node(base, double, kubelet)
        node.boot(1)
        node.configure(hold_s=0)
        await node.start()
        await kubelet.wait_registered("nvidia.com/gpu", *RESOURCES, timeout_s=60)
        try:
            fast = await measure_latency(node)
            return await measure_storm(node) and fast
        finally:
            await node.stop()


async def measure_latency(node: Node) -> bool:
    """A fault of a GPU, until all three resources of its instances are listed Unhealthy."""
    node.double.raise_event(0, xid=14)
    await node.logged("fault", code="14", timeout_s=60)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        node.double.raise_event(7, xid=95)
        await asyncio.gather(*(node.lists(set(), name) for name in RESOURCES))
        times.append(time.perf_counter() - started)
        request = {"operation": "forget", "device": gpu_uuid(7)}
        await asyncio.to_thread(ask_daemon, node.state, request)
        await node.kubelet.wait_for(lambda: all(node.healthy(name) for name in RESOURCES))
        await asyncio.sleep(0.15)  # out of the burst of the recovery
    ordered = sorted(times)
    print(
        f"event to all {len(RESOURCES)} lists, {ROUNDS} rounds:"
        f" median {statistics.median(times) * 1e3:.1f} ms,"
        f" p90 {ordered[int(ROUNDS * 0.9)] * 1e3:.1f} ms, max {ordered[-1] * 1e3:.1f} ms"
    )
    return ordered[-1] <= LIMIT_S


async def measure_storm(node: Node) -> bool:
    """A thousand events a second of a kind that takes nothing away."""
    assert node.daemon is not None
    process = psutil.Process(node.daemon.pid)
    await storm(node, 1)  # what is allocated once
    lists = {name: node.kubelet.messages(name) for name in ("nvidia.com/gpu", *RESOURCES)}
    memory, cpu = process.memory_info().rss, sum(process.cpu_times()[:2])
    sent = await storm(node, STORM_S)
    grown = process.memory_info().rss - memory
    spent = sum(process.cpu_times()[:2]) - cpu
    again = sum(node.kubelet.messages(name) - count for name, count in lists.items())
    print(
        f"storm of {sent} events in {STORM_S} s: memory {grown / 1024:+.0f} KiB,"
        f" {spent / STORM_S * 100:.0f} % of a core, {again} lists sent again"
    )
    return grown < 4 << 20 and again == 0


async def storm(node: Node, seconds: float) -> int:
    """Events at STORM_RATE; how many."""
    started, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - started) < seconds:
        while sent < now * STORM_RATE:
            node.double.raise_event(0, xid=13)
            sent += 1
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.5)  # the last ones arrive
    return sent


def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="b", dir="/tmp"))
    try:
        sys.exit(0 if asyncio.run(measure(base)) else 1)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
