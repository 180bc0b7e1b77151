"""A node with NVML double, kubelet stub and the daemon as a process of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb
from tests.fakes.nvml.host import write_host_tree
from tests.health.node import Node


@pytest.fixture
def short_dir() -> Iterator[Path]:
    # unix socket paths end at 107 bytes
    directory = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)  # gRPC removes sockets of its own meanwhile


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
