"""A node with NVML double, kubelet stub and the daemon as a process of its own."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb
from tests.fakes.nvml.host import write_host_tree

BOOT_ID = "proc/sys/kernel/random/boot_id"


@dataclass
class Node:
    """One node's directories; `daemon` is the running process, `log` what it wrote."""

    base: Path
    double: NvmlDouble
    kubelet: KubeletStub
    daemon: asyncio.subprocess.Process | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    _reader: "asyncio.Task[None] | None" = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def state(self) -> Path:
        return self.base / "state"

    def boot(self, number: int) -> None:
        """The kernel's boot id, and a driver that has just been loaded."""
        path = self.root / BOOT_ID
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"00000000-0000-0000-0000-{number:012d}\n")

    def configure(self, **health: object) -> None:
        (self.base / "config.yaml").write_text(json.dumps({"health": health}))

    async def start(
        self, vendors: str = "nvidia", environ: Mapping[str, str] | None = None
    ) -> None:
        """Start the daemon; returns when the kubelet has the first list of nvidia.com/gpu."""
        flags = [
            f"--config={self.base / 'config.yaml'}",
            f"--host-root={self.root}",
            f"--kubelet-dir={self.kubelet.kubelet_dir}",
            f"--state-dir={self.state}",
            f"--cdi-dir={self.base / 'cdi'}",
            "--metrics-address=",
            f"--vendors={vendors}",
        ]
        self.daemon = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deviceplugin",
            "run",
            *flags,
            env={**os.environ, **(environ or {})},
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read(self.daemon))

    async def stop(self) -> None:
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.terminate()
            await asyncio.wait_for(self.daemon.wait(), 20)
        if self._reader is not None:
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": "not_json", "line": line.decode()})
            self._news.set()

    async def logged(self, event: str, timeout_s: float = 20.0, **fields: object) -> dict[str, Any]:
        """Wait for a log event with these fields; those already there count."""
        async with asyncio.timeout(timeout_s):
            while True:
                for entry in self.log:
                    if entry.get("event") == event and fields.items() <= entry.items():
                        return entry
                self._news.clear()
                await self._news.wait()

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of an operator's command."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deviceplugin",
            *arguments,
            f"--state-dir={self.state}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    def healthy(self, resource: str = "nvidia.com/gpu") -> set[str]:
        listed = self.kubelet.devices(resource).values()
        return {device.id for device in listed if device.health == "Healthy"}

    async def lists(
        self, expected: set[str], resource: str = "nvidia.com/gpu", timeout_s: float = 20.0
    ) -> None:
        """Wait until exactly these ids are listed Healthy to this kubelet's live stream."""
        await self.kubelet.wait_registered(resource, timeout_s=timeout_s)
        await self.kubelet.wait_for(
            lambda: self.healthy(resource) == expected, timeout_s, f"{sorted(expected)} healthy"
        )


@pytest.fixture
def short_dir() -> Iterator[Path]:
    # unix socket paths end at 107 bytes
    directory = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def node(short_dir: Path) -> AsyncIterator[Node]:
    """Two A100, boot 1, holds of no length."""
    scenario = Scenario(gpus=(a100_40gb(0), a100_40gb(1)))
    double = NvmlDouble(short_dir / "root", scenario=scenario)
    write_host_tree(short_dir / "root", scenario)
    async with KubeletStub(short_dir / "k") as kubelet:
        node = Node(short_dir, double, kubelet)
        node.boot(1)
        node.configure(hold_s=0)
        try:
            yield node
        finally:
            await node.stop()


Start = Callable[..., Awaitable[None]]
