"""Two GPUs that the daemon shares, on a node that must come out of each test in order."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.rig import DaemonProcess, Rig, two_a100


def start(rig: Rig, config: dict[str, Any]) -> DaemonProcess:
    """A daemon with a configuration."""
    path = rig.config(json.dumps(config))
    return rig.start("--vendors", "nvidia", "--config", str(path))


async def polls(rig: Rig, count: int) -> None:
    """Wait until the ledger has asked so often from now on; the stub tells nobody of it."""
    service = rig.stub.pod_resources
    wanted = service.calls + count
    await rig.daemons[-1].until(lambda: service.calls >= wanted)


@pytest.fixture
async def rig(rig: Rig) -> AsyncIterator[Rig]:
    """Two A100-40GB and a kubelet that nothing wrong was done to."""
    two_a100(rig.host_root)
    await rig.stub.start()
    yield rig
    for daemon in rig.daemons:  # killed, one would leave its MPS behind
        assert await daemon.stop() == 0, daemon.log_path.read_text()
    assert rig.stub.crashes == []
    assert rig.stub.violations == []
