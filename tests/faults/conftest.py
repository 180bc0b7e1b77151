"""The node that faults happen to."""

import pytest

from tests.fakes.syscalls import Faults
from tests.faults.node import Node
from tests.faults.recovery import recovering
from tests.rig import Rig

__all__ = ["recovering"]


@pytest.fixture
def node(rig: Rig) -> Node:
    return Node(rig, Faults(rig.root / "faults"))
