"""Fixtures that many folders use: a rig in a short directory, with or without NVIDIA GPUs."""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, settings

from tests.fakes.nvml import NvmlDouble
from tests.faults.recovery import pytest_terminal_summary
from tests.rig import Rig, nvidia_node, rig_below

__all__ = ["pytest_terminal_summary"]  # at the top of tests, where every run of pytest finds it

# The same inputs every time, however slow the machine: `make fuzz` looks for new ones.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

# A test with one of these fixtures has a daemon, or another process, of its own.
PROCESSES = frozenset({"rig", "shared", "probe"})
SLOW = frozenset(
    {"conformance", "demo", "e2e", "faults", "fuzz", "standalone", "third_party"}
)  # whole folders


class Processes:
    """Whether the test that runs now may start any: not among those that are not marked `slow`."""

    allowed = True


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark what `make test-quick` leaves out by its fixtures; the rest says so by `pytestmark`."""
    for item in items:
        names = item.fixturenames if isinstance(item, pytest.Function) else ()
        if item.path.parent.name in SLOW or not PROCESSES.isdisjoint(names):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon in this process has psutil look below its host root: for that test alone."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/proc")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Nobody finds out by a stopwatch that a quick test is none: every run refuses it."""
    Processes.allowed = item.get_closest_marker("slow") is not None
    try:
        return (yield)
    finally:
        Processes.allowed = True


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:  # any event of Python
    if event == "subprocess.Popen" and not Processes.allowed:
        command = [str(word) for word in arguments[1]]
        if Path(command[0]).name != "cc" and "ziglang" not in command:  # the doubles, once a run
            pytest.fail(f"it starts a process ({' '.join(command)[:200]}): mark the test `slow`")


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command that runs in this process sets the log up: for its own test alone."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Unix socket paths end at 107 bytes: pytest's own tmp_path is too long on some machines."""
    directory = Path(tempfile.mkdtemp(prefix="d"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)  # gRPC removes sockets of its own meanwhile


@pytest.fixture
async def rig(short_dir: Path) -> AsyncIterator[Rig]:
    """An empty node; daemons that a test leaves behind are ended."""
    async with rig_below(short_dir) as rig:
        yield rig


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Rig]:
    """A node for those tests of a module that only read; they run on the loop of the module."""
    directory = Path(tempfile.mkdtemp(prefix="d"))
    async with rig_below(directory) as rig:
        yield rig
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def nvml(rig: Rig) -> NvmlDouble:
    """The rig's node has eight A100, two of them cut into MIG instances."""
    return nvidia_node(rig)
