"""The daemon's share of the node runs out: inotify instances and watches, file descriptors."""

import asyncio
import errno
import resource
import socket

import pytest

from tests.fakes.syscalls import Call, Point
from tests.faults.node import AMD, GPUS, INTEL, Node
from tests.faults.recovery import Recovering
from tests.rig import DaemonProcess

LIMITS = {
    "instances": (errno.EMFILE, Call.INOTIFY_INIT),
    "watches": (errno.ENOSPC, Call.INOTIFY_WATCH),
}


def watches_by_inotify(daemon: DaemonProcess) -> bool:
    return any("inotify" in descriptor for descriptor in daemon.descriptors())


@pytest.mark.parametrize("limit", LIMITS)
async def test_without_inotify_a_new_kubelet_is_noticed_all_the_same(
    node: Node, limit: str, recovering: Recovering
) -> None:
    number, call = LIMITS[limit]
    node.faults.fail(number, Point(call, ""))
    daemon = await node.up()
    assert node.faults.fired
    for _ in range(3):
        await node.rig.stub.stop()
        await node.rig.stub.start()
        with recovering(f"new kubelet without inotify {limit}"):
            await node.right()
    node.faults.clear()
    with recovering(f"inotify {limit} back"):
        await daemon.until(lambda: watches_by_inotify(daemon))
    await node.rig.stub.stop()
    await node.rig.stub.start()
    with recovering("new kubelet with inotify"):
        await node.right()


async def test_without_descriptors_it_keeps_what_it_knows_and_does_not_spin(
    node: Node, recovering: Recovering
) -> None:
    daemon = await node.up()
    address = (await daemon.wait_event("metrics_served"))["address"]
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    node.faults.fail(errno.EMFILE, Point(Call.ACCEPT, ""))  # counts: the limit would say the same
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        for vendor in ("amd", "intel"):
            event = await daemon.wait_event("vendor_waits", vendor=vendor)
            assert "Too many open files" in event["reason"]
        assert node.rig.stub.allocatable() == node.full
        await node.rig.one_of_each(node.full)  # on the kubelet's connection
        assert node.faults.fired < 1000
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        node.faults.clear()
        with recovering("no descriptors: a waiting probe is answered"):
            assert b"200 OK" in await asyncio.to_thread(waiting.recv, 100)
    node.pull(GPUS[1])
    with recovering("no descriptors: a change is seen again"):
        await node.rig.allocatable({AMD: 1, INTEL: 1})


async def test_a_low_soft_limit_of_descriptors_is_raised_to_the_hard_one(node: Node) -> None:
    node.rig.wrapper = ("sh", "-c", 'ulimit -S -n 16; exec "$@"', "sh")
    daemon = await node.up()
    soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


async def test_sixty_four_descriptors_are_enough(node: Node) -> None:
    node.rig.wrapper = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    await node.up()
    await node.rig.one_of_each(node.full)
