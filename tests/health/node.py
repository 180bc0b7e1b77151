"""A node with NVML double, kubelet stub and the daemon as a process of its own."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble
from tests.rig import WAIT_S

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
            await asyncio.wait_for(self.daemon.wait(), WAIT_S)
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

    async def logged(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a log event with these fields; those already there count."""
        async with asyncio.timeout(WAIT_S):
            while not (entries := self.found(event, **fields)):
                self._news.clear()
                await self._news.wait()
        return entries[0]

    def found(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The log's events of this name with these fields."""
        return [e for e in self.log if e.get("event") == event and fields.items() <= e.items()]

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
        self, expected: set[str], resource: str = "nvidia.com/gpu", timeout_s: float = WAIT_S
    ) -> None:
        """Wait until exactly these ids are listed Healthy to this kubelet's live stream."""
        await self.kubelet.wait_registered(resource, timeout_s=timeout_s)
        await self.kubelet.wait_for(
            lambda: self.healthy(resource) == expected, timeout_s, f"{sorted(expected)} healthy"
        )
