"""The standalone node; every test of this folder is skipped where its programs are not named."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest

from tests.e2e.standalone.node import StandaloneNode
from tests.rig import Rig


@pytest.fixture
def programs() -> tuple[str, str]:
    """The kubelet and containerd that the environment names."""
    if missing := _missing():
        pytest.skip(missing)
    return os.path.abspath(os.environ["KUBELET"]), os.path.abspath(os.environ["CONTAINERD"])


def _missing() -> str:
    """What a run needs and does not have, "" if nothing."""
    for name in ("KUBELET", "CONTAINERD"):
        if not os.access(os.environ.get(name, ""), os.X_OK):
            return f"{name} names no program"
    if os.geteuid() != 0:
        return "namespaces and containers need root"
    tools = [tool for tool in ("unshare", "nsenter", "runc", "ctr") if not shutil.which(tool)]
    return f"not on PATH: {', '.join(tools)}" if tools else ""


@pytest.fixture
async def node(programs: tuple[str, str], rig: Rig) -> AsyncIterator[StandaloneNode]:
    """A node where the daemon serves six resources of three vendors to a real kubelet."""
    node = StandaloneNode(rig, *programs)
    try:
        await node.start()
        yield node
    finally:
        node.close()
