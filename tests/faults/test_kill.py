"""The daemon dies by SIGKILL before each of its calls to the system, one after the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from deviceplugin.testing.pods import AdmissionError
from tests.fakes.syscalls import CHANGING, SOCKETS, Call, Point
from tests.faults.node import Node


async def test_a(node: Node, recovering) -> None:
    node.offer_forms()
    daemon = await node.up()
    print(node.rig.stub.capacity())
    node.faults.kill(*points(node, skip=0, times=10000))
    with pytest.raises(AdmissionError):
        await node.rig.stub.admit("p", {"c": {"amd.com/gpu": 1}})
    print(node.faults.where)
    daemon.process.wait()
    node.faults.clear()
    with recovering("kill"):
        node.start()
        await node.right()
    print(list(node.rig.root.rglob("*")) and [p for p in (node.rig.root/"state").iterdir()], [p for p in (node.rig.root/"cdi").iterdir()])


def points(node: Node, skip: int, times) -> list[Point]:
    """Everything about sockets, state and CDI files, and what is looked at of the device nodes."""
    root = node.rig.root
    return [
        Point(CHANGING | SOCKETS, f"{root}/k/", skip, times),
    ]
