"""A node under attack: what its daemon answers meanwhile, and what that costs it.

Attackers are processes of their own: one in ours would slow the measurement and not the daemon.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from deviceplugin.testing.plugin_client import RpcError
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig, two_a100

PATIENCE_S = 60.0  # ends a call of a daemon that has failed
RECOVERY_S = 60.0


@dataclass
class Figures:
    """Seconds of each Allocate and of each answer to the liveness probe, and resident MiB."""

    allocate_s: list[float] = field(default_factory=list)
    alive_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def allocate(self, part: float) -> float:
        """A quantile of Allocate, in seconds."""
        return quantile(self.allocate_s, part)


def quantile(values: Sequence[float], part: float) -> float:
    """The value that this part of `values` does not pass; nan without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


@dataclass
class Scene:
    """A node with two GPUs and a daemon that serves it."""

    rig: Rig
    double: NvmlDouble
    daemon: DaemonProcess

    @property
    def plugin_socket(self) -> Path:
        """The socket of the resource of whole GPUs."""
        return (
            self.rig.kubelet_dir / "device-plugins/deviceplugin" / f"{GPU.replace('/', '_')}.sock"
        )

    async def port(self) -> int:
        """Of /metrics."""
        address = (await self.daemon.wait_event("metrics_served"))["address"]
        return int(address.rpartition(":")[2])

    def rss_mib(self, name: str = "VmRSS") -> float:
        """Resident memory, or its peak (VmHWM)."""
        for line in Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise ProcessLookupError(self.daemon.pid)

    async def allocate(self) -> float:
        """One Allocate by the kubelet; seconds. Its answer must be the right one."""
        started = time.perf_counter()
        (wanted, *_) = sorted(self.rig.stub.devices(GPU))
        answer = await self.rig.stub.allocate(GPU, [wanted], PATIENCE_S)
        took = time.perf_counter() - started
        given = answer.container_responses[0]
        assert wanted in given.envs["NVIDIA_VISIBLE_DEVICES"], given
        return took

    async def alive(self) -> float:
        """Seconds until liveness is answered."""
        started = time.perf_counter()
        await asyncio.wait_for(asyncio.to_thread(self._ask_alive), PATIENCE_S)
        return time.perf_counter() - started

    def _ask_alive(self) -> None:
        from tests.rig import fetch

        address = self.daemon.events("metrics_served")[0]["address"]
        status, text = fetch(f"http://{address}/healthz")
        assert status == 200, text

    async def measure(self, while_: Callable[[], bool], at_least: int = 5) -> Figures:
        """Ask again and again for as long as that holds, and so many times at least."""
        figures = Figures()
        while while_() or len(figures.alive_s) < at_least:
            await self._sample(figures)
            await asyncio.sleep(0.02)
        return figures

    async def _sample(self, figures: Figures) -> None:
        for ask, times in ((self.allocate, figures.allocate_s), (self.alive, figures.alive_s)):
            try:
                times.append(await ask())
            except (RpcError, OSError, TimeoutError) as error:
                times.append(PATIENCE_S)
                figures.failed.append(f"{error!r:.200}")
        figures.rss_mib.append(self.rss_mib())

    async def under(self, *attack: str) -> Figures:
        """Measure while `python -m tests.attacks.attacker …` runs."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.attacks.attacker", *attack
        )
        try:
            figures = await self.measure(lambda: process.returncode is None)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        figures.rss_mib.append(self.rss_mib("VmHWM"))
        return figures

    async def recovers(self, quiet: Figures) -> float:
        """Seconds until an Allocate and a probe are as fast as three times the slowest quiet one."""
        started = time.perf_counter()
        slow_s = 3 * max(*quiet.allocate_s, *quiet.alive_s, 0.01)
        async with asyncio.timeout(WAIT_S):
            while max(await self.allocate(), await self.alive()) > slow_s:
                await asyncio.sleep(0.01)
        return time.perf_counter() - started


@contextlib.asynccontextmanager
async def scene_below(rig: Rig, *arguments: str) -> AsyncIterator[Scene]:
    """The rig's node, served."""
    double = two_a100(rig.host_root)
    await rig.stub.start()
    daemon = rig.start(*arguments)
    scene = Scene(rig, double, daemon)
    await rig.allocatable({GPU: 2})
    yield scene
