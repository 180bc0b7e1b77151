"""Health through the whole daemon: NVML double on one side, kubelet stub on the other."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from deviceplugin.testing.amd import MI210, SimulatedGpu, amd_tree
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml.cards import gpu_uuid
from tests.fakes.nvml.host import write_host_tree
from tests.fakes.nvml.model import Gpu, RemappedRows
from tests.health.node import Node
from tests.rig import WAIT_S

pytestmark = pytest.mark.slow

ONE, TWO = gpu_uuid(0), gpu_uuid(1)
BOTH = {ONE, TWO}


async def registered(node: Node, expected: set[str] = BOTH) -> None:
    await node.start()
    await node.lists(expected)
    await node.logged("vendor_serves")


async def watched(node: Node) -> None:
    """The daemon takes events: an XID without consequence was told."""
    async with asyncio.timeout(WAIT_S):
        while not node.found("fault", code="14"):
            node.double.raise_event(1, xid=14)
            await asyncio.sleep(0.2)


async def test_a_gpu_that_fell_off_the_bus_comes_back_with_a_reboot_only(node: Node) -> None:
    await registered(node)
    await watched(node)
    node.double.raise_event(0, xid=79)
    await node.lists({TWO})
    fault = await node.logged("fault", code="79")
    assert fault["action"].startswith("reboot the node")

    await node.stop()
    assert "79" in (node.state / "health.json").read_text()
    await registered(node, {TWO})

    await node.stop()
    node.boot(2)
    await registered(node, BOTH)


async def test_contained_errors_and_page_faults_leave_the_gpu_listed(node: Node) -> None:
    await registered(node)
    await watched(node)
    for xid in (94, 13, 31):
        node.double.raise_event(0, xid=xid)
        await node.logged("fault", code=str(xid))
    assert node.healthy() == BOTH


async def test_a_context_switch_timeout_takes_the_gpu_until_the_driver_is_loaded_anew(
    node: Node,
) -> None:
    await registered(node)
    await watched(node)
    node.double.raise_event(0, xid=109)
    await node.lists({TWO})
    node.double.update_gpu(0, lambda gpu: replace(gpu, energy_mj=5))
    await node.lists(BOTH)


async def test_a_driver_loaded_anew_while_the_daemon_was_away_is_noticed(node: Node) -> None:
    await registered(node)
    await watched(node)
    node.double.raise_event(0, xid=109)
    await node.lists({TWO})
    await node.stop()
    node.double.update_gpu(0, lambda gpu: replace(gpu, energy_mj=5))
    await registered(node, BOTH)


async def test_an_xid_of_a_mig_instance_takes_that_instance_alone(node: Node) -> None:
    node.double.set_mig(0, ["1g.5gb", "1g.5gb", "2g.10gb"])
    write_host_tree(node.root, node.double.scenario)
    instances = node.double.scenario.gpu(0).mig
    small = [i for i in instances if i.gi_slices == 1]
    await node.start()
    resource = "nvidia.com/mig-1g.5gb"
    await node.lists({i.uuid for i in small}, resource)
    await watched(node)
    node.double.raise_event(0, xid=95, gi=small[0].gi, ci=small[0].ci)
    await node.lists({small[1].uuid}, resource)
    assert len(node.healthy("nvidia.com/mig-2g.10gb")) == 1

    node.double.raise_event(0, xid=79)
    await node.lists(set(), resource)
    await node.lists(set(), "nvidia.com/mig-2g.10gb")


async def test_a_cordon_outlives_the_daemon_and_ends_with_uncordon(node: Node) -> None:
    await registered(node)
    status, text = await node.command("cordon", ONE, "--reason", "new paste")
    assert (status, text) == (0, f"{ONE} cordoned\n")
    await node.lists({TWO})
    await node.stop()
    await registered(node, {TWO})
    _, shown = await node.command("health")
    assert f"setup: {ONE}: cordoned by an operator: new paste" in shown
    assert f"cleared by: deviceplugin uncordon {ONE}" in shown
    await node.command("uncordon", ONE)
    await node.lists(BOTH)


async def test_an_operator_can_say_that_a_gpu_is_well(node: Node) -> None:
    await registered(node)
    await watched(node)
    node.double.raise_event(0, xid=142)
    await node.lists({TWO})
    _, shown = await node.command("health", "--format", "json")
    first = json.loads(shown)["devices"][0]
    assert first["condition"] == "unhealthy"
    assert first["faults"][0]["cleared_by"] == (
        f"an operator: deviceplugin uncordon {ONE} --forget-faults"
    )
    assert await node.command("uncordon", ONE) == (0, f"{ONE} uncordoned\n")
    assert node.healthy() == {TWO}
    await node.command("uncordon", ONE, "--forget-faults")
    await node.lists(BOTH)


async def test_commands_say_what_is_wrong_with_them(node: Node) -> None:
    status, text = await node.command("health")
    assert status == 1
    assert "no daemon answers" in text
    await registered(node)
    status, text = await node.command("cordon", "GPU-none", "--reason", "x")
    assert status == 1
    assert "there is no device 'GPU-none'" in text
    assert (node.state / "control.sock").stat().st_mode & 0o777 == 0o600


async def test_a_gpu_with_a_standing_memory_fault_is_never_listed_healthy(node: Node) -> None:
    node.double.update_gpu(0, lambda gpu: _with_remap(gpu, failure=True))
    await registered(node, {TWO})
    assert node.kubelet.messages("nvidia.com/gpu") == 1
    node.double.update_gpu(0, lambda gpu: _with_remap(gpu, failure=False))
    await node.lists(BOTH)


async def test_a_probe_that_hangs_is_a_fault_of_its_gpu(node: Node) -> None:
    node.configure(hold_s=0, call_deadline_s=0.5)
    await registered(node)
    node.double.hang("nvmlDeviceGetRemappedRows", gpu=0)
    await node.lists({TWO})
    await node.logged("vendor_waits", vendor="nvidia")
    node.double.unhang()
    await node.lists(BOTH)


async def test_the_variables_of_the_field_choose_which_xids_count(node: Node) -> None:
    await node.start(
        environ={"DP_DISABLE_HEALTHCHECKS": "all", "DP_ENABLE_HEALTHCHECKS": "13, nonsense!"}
    )
    await node.lists(BOTH)
    async with asyncio.timeout(WAIT_S):
        while node.healthy() == BOTH:
            node.double.raise_event(0, xid=79)
            node.double.raise_event(1, xid=13)
            await asyncio.sleep(0.3)
    await node.lists({ONE})


async def test_a_damaged_state_file_is_set_aside_and_told(node: Node) -> None:
    node.state.mkdir()
    (node.state / "health.json").write_text('{"version": 1, "faults": [')
    await registered(node)
    await node.logged("state_file_damaged")
    assert (node.state / "health.json.damaged").exists()


def _with_remap(gpu: Gpu, *, failure: bool) -> Gpu:
    return replace(gpu, remapped=RemappedRows(failure=failure))


async def test_a_hung_nvml_costs_its_own_vendor_only(node: Node) -> None:
    write_tree(node.root, amd_tree([SimulatedGpu(address="0000:43:00.0", model=MI210)]))
    await node.start("nvidia,amd")
    await node.lists(BOTH)
    await node.kubelet.wait_registered("amd.com/gpu")
    (amd,) = node.healthy("amd.com/gpu")
    node.double.hang()
    await node.logged("vendor_waits", vendor="nvidia")
    await node.lists(set())
    for _ in range(20):
        answer = await node.kubelet.allocate("amd.com/gpu", [amd])
        assert len(answer.container_responses) == 1
    node.double.unhang()
    await node.lists(BOTH)
