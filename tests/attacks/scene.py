"""A node under attack: what its daemon answers meanwhile, and what that costs it.

Attackers are processes of their own: one in ours would slow the measurement and not the daemon.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deviceplugin import alive
from deviceplugin.testing.plugin_client import RpcError
from deviceplugin.vendors.nvidia.agent import DEVICE_API
from tests.attacks import http2
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig, two_a100

PATIENCE_S = 60.0  # ends a call of a daemon that has failed


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

    def rss_mib(self, name: str = "VmRSS") -> float:
        """Resident memory, or its peak (VmHWM)."""
        for line in Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise ProcessLookupError(self.daemon.pid)

    async def allocate(self) -> float:
        """One Allocate by the kubelet; seconds. Its answer must be the right one."""
        started = time.perf_counter()
        wanted = min(self.rig.healthy(GPU))
        answer = await self.rig.stub.allocate(GPU, [wanted], PATIENCE_S)
        took = time.perf_counter() - started
        given = answer.container_responses[0]
        assert wanted in given.envs["NVIDIA_VISIBLE_DEVICES"], given
        return took

    async def alive(self) -> float:
        """Seconds until liveness is answered."""
        started = time.perf_counter()
        problem = await asyncio.to_thread(alive.problem, self.daemon.pid, PATIENCE_S)
        assert not problem
        return time.perf_counter() - started

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

    def target(self, attack: str) -> str:
        """What that attack is against."""
        if attack in http2.FLOODS or attack == "large messages":
            return str(self.plugin_socket)
        if attack == "configurations":
            return str(self.rig.root / "config.yaml")
        if attack == "agent":
            return f"{self.rig.host_root}{DEVICE_API.socket}"
        if attack == "events":
            return str(self.double.folder / "nvml-events")
        return str(self.daemon.events("metrics_served")[0]["address"]).rpartition(":")[2]

    async def under(self, attack: str, seconds: float) -> Figures:
        """Measure while an attacker is at work."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.attacks.attacker"),
            *(attack, self.target(attack), str(seconds)),
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
        """Seconds until an Allocate and a probe are within three times the slowest quiet one."""
        started = time.perf_counter()
        slow_s = 3 * max(*quiet.allocate_s, *quiet.alive_s, 0.01)
        async with asyncio.timeout(WAIT_S):
            while max(await self.allocate(), await self.alive()) > slow_s:
                continue
        return time.perf_counter() - started


@contextlib.asynccontextmanager
async def scene_below(rig: Rig) -> AsyncIterator[Scene]:
    """The rig's node, served."""
    double = two_a100(rig.host_root)
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config("log_level: info\n")))
    await daemon.wait_event("metrics_served")
    await rig.allocatable({GPU: 2})
    yield Scene(rig, double, daemon)
