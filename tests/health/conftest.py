"""A node with NVML double, kubelet stub and the daemon as a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deviceplugin.testing.kubelet import KubeletStub
from tests.health.node import Node
from tests.rig import two_a100


@pytest.fixture
async def node(short_dir: Path) -> AsyncIterator[Node]:
    """Two A100, boot 1, holds of no length."""
    double = two_a100(short_dir / "root")
    async with KubeletStub(short_dir / "k") as kubelet:
        node = Node(short_dir, double, kubelet)
        node.boot(1)
        node.configure(hold_s=0)
        try:
            yield node
        finally:
            await node.stop()
