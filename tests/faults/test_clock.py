"""The wall clock is set, years ahead and years back."""

import asyncio
import json

import pytest

from deviceplugin.runtime.control import ask_daemon
from tests.faults.node import AMD, EACH, MEMORY, Node
from tests.faults.recovery import Recovering

TEN_YEARS_S = 3650 * 86400.0
JUMPS = {"ahead": TEN_YEARS_S, "back": -TEN_YEARS_S}
each_jump = pytest.mark.parametrize("jump", JUMPS)
LINK = "sys/bus/pci/devices/0000:27:00.0"


def errors(node: Node, count: int) -> None:
    """The GPU's count of PCIe errors, which are told for an hour and take nothing away."""
    path = node.rig.host_root / LINK / "aer_dev_nonfatal"
    path.write_text(f"Undefined 0\nTOTAL_ERR_NONFATAL {count}\n")


@each_jump
async def test_the_kubelet_is_served_across_a_jump(
    node: Node, jump: str, recovering: Recovering
) -> None:
    await node.up()
    accepted = len(node.rig.stub.log.accepted)
    node.faults.shift_clock(JUMPS[jump])
    await node.rig.one_of_each(node.full)
    assert len(node.rig.stub.log.accepted) == accepted
    await node.rig.stub.stop()
    await node.rig.stub.start()
    with recovering(f"clock {jump} by ten years, then a new kubelet"):
        await node.right()


@each_jump
async def test_what_is_in_use_stays_in_use_until_it_is_released(node: Node, jump: str) -> None:
    node.offer_forms()
    daemon = await node.up()
    await node.rig.stub.admit("pod", {"main": {AMD: 1}})
    used = {**node.full, MEMORY: node.full[MEMORY] - EACH}
    await node.lists(used)
    calls = node.rig.stub.pod_resources.calls
    node.faults.shift_clock(JUMPS[jump])
    await daemon.until(lambda: node.rig.stub.pod_resources.calls > calls + 2)
    await node.lists(used)
    node.rig.stub.remove_pod("pod")
    await node.right()


@each_jump
async def test_a_cordon_and_what_was_told_outlast_a_jump(node: Node, jump: str) -> None:
    errors(node, 0)
    daemon = await node.up()
    device = node.ids()[AMD][0]
    errors(node, 1)
    await daemon.wait_event("fault", code="aer_nonfatal")
    assert await node.order("cordon", device) == ""
    node.faults.shift_clock(JUMPS[jump])
    assert await node.order("uncordon", device) == ""  # a change: what is over by the clock goes
    await node.right()
    assert await faults_of(node) == {"aer_nonfatal"}
    assert await node.order("cordon", device) == ""
    await node.lists({**node.full, AMD: 1})
    daemon.kill()
    node.start()
    await node.lists({**node.full, AMD: 1})
    assert json.loads((node.rig.state_dir / "health.json").read_text())["cordons"]


@each_jump
async def test_a_device_is_held_back_as_long_as_without_a_jump(
    node: Node, jump: str, recovering: Recovering
) -> None:
    await node.up()
    path = node.rig.host_root / LINK / "config"
    kept = path.read_bytes() if path.exists() else None
    path.write_bytes(b"\xff" * 64)
    await node.lists({**node.full, AMD: 1})
    node.faults.shift_clock(JUMPS[jump])
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(kept)
    with recovering(f"clock {jump} by ten years while a GPU was ill"):
        await node.right()


async def faults_of(node: Node) -> set[str]:
    """The codes of all faults that stand."""
    answer = await asyncio.to_thread(ask_daemon, node.rig.state_dir, {"operation": "health"})
    return {fault["code"] for device in answer["devices"] for fault in device["faults"]}
