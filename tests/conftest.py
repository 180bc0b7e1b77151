"""Fixtures that many folders use: a rig in a short directory, with or without NVIDIA GPUs."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.nvml import NvmlDouble
from tests.faults.recovery import pytest_terminal_summary
from tests.rig import Rig, nvidia_node

__all__ = ["pytest_terminal_summary"]  # at the top of tests, where every run of pytest finds it

# The same inputs every time, however slow the machine: `make fuzz` looks for new ones.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Unix socket paths end at 107 bytes: pytest's own tmp_path is too long on some machines."""
    directory = Path(tempfile.mkdtemp(prefix="d"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)  # gRPC removes sockets of its own meanwhile


@pytest.fixture
async def rig(short_dir: Path) -> AsyncIterator[Rig]:
    """An empty node; daemons that a test leaves behind are ended."""
    rig = Rig(short_dir)
    yield rig
    for daemon in rig.daemons:
        await asyncio.to_thread(daemon.end)
    await rig.stub.aclose()


@pytest.fixture
def nvml(rig: Rig) -> NvmlDouble:
    """The rig's node has eight A100, two of them cut into MIG instances."""
    return nvidia_node(rig)
