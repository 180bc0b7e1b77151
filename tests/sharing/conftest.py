"""A daemon as a process of its own, below short directories, with NVML double and kubelet stub."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.rig import WAIT_S


@dataclass
class Node:
    """A simulated node: `root` is its file tree, `kubelet` the stub."""

    root: Path
    double: NvmlDouble
    kubelet: KubeletStub
    daemons: list["asyncio.subprocess.Process"] = field(default_factory=list)

    async def start(self, config: dict[str, Any] | str, *flags: str) -> None:
        """Start the daemon with a configuration."""
        path = self.root / "config.yaml"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        places = {
            "--host-root": self.root / "host",
            "--kubelet-dir": self.root / "k",
            "--state-dir": self.root / "state",
            "--cdi-dir": self.root / "cdi",
            "--metrics-address": "",
            "--vendors": "nvidia",
            "--config": path,
        }
        arguments = [str(word) for pair in places.items() for word in pair]
        with (self.root / "log").open("ab") as log:
            daemon = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "deviceplugin",
                "run",
                *arguments,
                *flags,
                stderr=log,
                stdout=log,
            )
        self.daemons.append(daemon)

    async def stop(self) -> None:
        """Let the daemon end as at SIGTERM."""
        daemon = self.daemons.pop()
        if daemon.returncode is None:
            daemon.terminate()
        assert await asyncio.wait_for(daemon.wait(), WAIT_S) == 0, self.log

    async def kill(self) -> None:
        daemon = self.daemons.pop()
        daemon.kill()
        await daemon.wait()
        await self.kubelet.wait_for(lambda: not any(self.kubelet.allocatable().values()))

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    async def polls(self, count: int) -> None:
        """Wait until the ledger has asked so often from now on; the stub tells nobody of it."""
        service = self.kubelet.pod_resources
        wanted = service.calls + count
        async with asyncio.timeout(WAIT_S):
            while service.calls < wanted:  # noqa: ASYNC110  # nothing tells of a List
                await asyncio.sleep(0.05)

    async def allocatable(self, resource: str, count: int) -> None:
        """Wait until so many ids of the resource are healthy."""
        await self.kubelet.wait_for(
            lambda: self.kubelet.allocatable().get(resource) == count,
            WAIT_S,
            f"{count} of {resource}",
        )


@pytest.fixture
def root() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="s"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)  # gRPC removes sockets of its own meanwhile


@pytest.fixture
async def node(root: Path) -> AsyncIterator[Node]:
    """Two A100-40GB."""
    double = NvmlDouble(root / "host", scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    write_host_tree(root / "host", double.scenario)
    async with KubeletStub(root / "k") as kubelet:
        node = Node(root, double, kubelet)
        yield node
        while node.daemons:  # killed, a daemon would leave its MPS behind
            await node.stop()
        assert kubelet.crashes == []
        assert kubelet.violations == []
