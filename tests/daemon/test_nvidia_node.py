"""The daemon as a process, on a node with the NVML double and a kubelet stub on real sockets."""

import asyncio
import json
import signal

import pytest
import pytest_asyncio

from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.pods import AdmissionError
from tests.fakes.nvml import MIG_CONFIG_EVENT, NvmlDouble, write_host_tree
from tests.rig import (
    GPU,
    MIG_1G,
    MIG_2G,
    MIG_3G,
    WAIT_S,
    DaemonProcess,
    Rig,
    nvidia_node,
    run_command,
)

ALL = {GPU: 6, MIG_1G: 9, MIG_2G: 1, MIG_3G: 1}
GPU_3 = "GPU-33333333-3333-3333-3333-333333333333"


async def serving(rig: Rig, *arguments: str, **variables: str) -> DaemonProcess:
    """A daemon whose resources are all listed."""
    await rig.stub.start()
    daemon = rig.start(*arguments, **variables)
    await rig.capacity(ALL)
    return daemon


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared: Rig) -> Rig:
    """A daemon that has listed everything."""
    nvidia_node(shared)
    await serving(shared)
    return shared


@pytest.mark.asyncio(loop_scope="module")
async def test_every_gpu_and_mig_profile_is_a_resource(served: Rig) -> None:
    assert served.stub.capacity() == ALL
    assert served.stub.allocatable() == ALL
    assert served.stub.violations == []


@pytest.mark.asyncio(loop_scope="module")
async def test_discover_shows_the_same_devices_as_the_kubelet_gets(served: Rig) -> None:
    where = ("--host-root", str(served.host_root))
    found = await asyncio.to_thread(run_command, "discover", "--format", "json", *where)
    report = json.loads(found.stdout)
    listed = {name: [e["id"] for e in entries] for name, entries in report["resources"].items()}
    assert listed == {name: sorted(served.stub.devices(name)) for name in ALL}
    assert len([d for d in report["devices"] if d["vendor"] == "nvidia"]) == 8 + 4 + 7


@pytest.mark.asyncio(loop_scope="module")
async def test_a_pod_gets_the_contracts_variable(served: Rig) -> None:
    await served.stub.admit("pod", {"main": {GPU: 2}})
    given = served.stub.merged("pod", "main")
    served.stub.remove_pod("pod")
    held = sorted(given.envs["NVIDIA_VISIBLE_DEVICES"].split(","))
    assert len(held) == 2
    assert set(held) < set(served.stub.devices(GPU))
    assert (given.devices, given.mounts, given.cdi_devices) == ({}, {}, [])


async def test_as_in_the_image_it_does_without_docstrings(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig, PYTHONOPTIMIZE="2")
    await rig.stub.admit("pod", {"main": {MIG_1G: 1}})
    assert rig.stub.merged("pod", "main").envs["NVIDIA_VISIBLE_DEVICES"].startswith("MIG-")
    assert daemon.events("task_failed") == []


async def test_a_lost_gpu_turns_only_its_own_devices_unhealthy_and_comes_back(
    rig: Rig, nvml: NvmlDouble
) -> None:
    daemon = await serving(rig)
    nvml.lose(3)
    await rig.allocatable({GPU: 5})
    unhealthy = [i for i, seen in rig.stub.devices(GPU).items() if seen.health == "Unhealthy"]
    assert unhealthy == [GPU_3]
    assert rig.stub.allocatable() == ALL | {GPU: 5}
    fault = await daemon.wait_event("fault", device=GPU_3)
    assert fault["code"] == "gpu_lost"
    assert "reboot" in fault["action"]
    nvml.recover(3)
    await rig.allocatable({GPU: 6})


async def test_losing_a_mig_gpu_takes_all_its_instances_and_no_other(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await serving(rig)
    nvml.lose(6)
    await rig.allocatable({MIG_1G: 7})
    await rig.allocatable({MIG_3G: 0})
    assert rig.stub.allocatable() == {GPU: 6, MIG_1G: 7, MIG_2G: 0, MIG_3G: 0}
    assert rig.stub.capacity() == ALL


async def test_a_new_mig_layout_changes_the_resources_without_a_restart(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await serving(rig)
    nvml.set_mig(6, ["4g.20gb"])
    write_host_tree(rig.host_root, nvml.scenario)
    await rig.stub.wait_registered("nvidia.com/mig-4g.20gb")
    await rig.allocatable({"nvidia.com/mig-4g.20gb": 1})
    await rig.allocatable({MIG_3G: 0})
    assert rig.stub.crashes == []


async def test_an_nvml_event_brings_a_discovery_before_its_time(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig)

    async def change() -> None:
        nvml.raise_event(0, 0, type=MIG_CONFIG_EVENT)

    await daemon.follows_signs("nvidia", change)
    nvml.set_mig(7, ["7g.40gb"])
    write_host_tree(rig.host_root, nvml.scenario)
    await change()
    await rig.stub.wait_registered("nvidia.com/mig-7g.40gb")


async def test_ids_that_a_pod_holds_stay_listed_until_it_ends(rig: Rig, nvml: NvmlDouble) -> None:
    await serving(rig)
    await rig.stub.admit("pod", {"main": {MIG_3G: 1}})
    (held,) = rig.stub.devices(MIG_3G)
    nvml.set_mig(6, ["4g.20gb"])
    await rig.stub.wait_registered("nvidia.com/mig-4g.20gb")
    await rig.allocatable({MIG_2G: 0})
    await rig.stub.wait_for(lambda: rig.stub.capacity().get(MIG_2G) == 0, WAIT_S, "unheld ids gone")
    assert [(i, seen.health) for i, seen in rig.stub.devices(MIG_3G).items()] == [
        (held, "Unhealthy")
    ]
    assert rig.stub.crashes == []


async def test_twenty_kubelet_restarts_leave_every_resource_registered_once(
    rig: Rig, nvml: NvmlDouble
) -> None:
    daemon = await serving(rig)
    for _ in range(20):
        await rig.stub.restart()
        await rig.stub.wait_for(lambda: rig.stub.allocatable() == ALL, what="all lists")
        names = [r.resource for r in rig.stub.registrations if r.generation == rig.stub.generation]
        assert sorted(names) == sorted(ALL)
        assert {name: rig.stub.live_streams(name) for name in ALL} == dict.fromkeys(ALL, 1)
    assert daemon.process.poll() is None
    _, metrics = await daemon.http("/metrics")
    assert "deviceplugin_kubelet_restarts_total 20.0" in metrics


async def test_a_wiped_directory_is_filled_again(rig: Rig, nvml: NvmlDouble) -> None:
    await serving(rig)
    await rig.stub.restart(wipe="directory")
    await rig.stub.wait_for(lambda: rig.stub.allocatable() == ALL, what="all lists")
    sockets = sorted(p.name for p in (rig.stub.socket_dir / "deviceplugin").iterdir())
    assert len(sockets) == len(ALL)


async def test_a_kubelet_that_comes_later_is_found(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = rig.start()
    await daemon.wait_event("resource_added", resource=GPU)
    assert "no kubelet listens" in await daemon.answers("/readyz", 503)
    await rig.stub.start()
    await rig.capacity(ALL)
    for name in ALL:
        await daemon.wait_event("registered", resource=name)
    await daemon.answers("/readyz")


async def test_a_driver_that_comes_later_is_found(rig: Rig, nvml: NvmlDouble) -> None:
    nvml.uninstall()
    await rig.stub.start()
    daemon = rig.start()
    await daemon.wait_event("vendor_waits", vendor="nvidia")
    nvml.install()
    await rig.stub.wait_registered(GPU)


async def test_a_stream_ended_by_the_kubelet_is_registered_again(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await serving(rig)
    await rig.stub.disconnect(GPU)
    await rig.stub.wait_for(lambda: rig.stub.live_streams(GPU) == 1, what="a new stream")
    await rig.allocatable({GPU: 6})
    assert [r.resource for r in rig.stub.registrations].count(MIG_1G) == 1


async def test_a_refused_registration_is_tried_again_alone(rig: Rig, nvml: NvmlDouble) -> None:
    rig.stub.register_knobs.refuse_next.append("not today")
    daemon = await serving(rig)
    refused = await daemon.wait_event("not_registered")
    assert "not today" in refused["reason"]
    assert len(daemon.events("not_registered")) == 1
    assert len(rig.stub.registrations) == len(ALL)


async def test_a_second_daemon_waits_and_takes_over(rig: Rig, nvml: NvmlDouble) -> None:
    first = await serving(rig)
    second = rig.start()
    await second.wait_event("waiting_for_other_daemon")
    assert "another daemon" in await second.answers("/readyz", 503)
    first.process.kill()
    await second.wait_event("registered", resource=GPU)
    await rig.stub.wait_for(lambda: rig.stub.allocatable() == ALL, what="all lists")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
async def test_a_signal_ends_it_cleanly(rig: Rig, nvml: NvmlDouble, number: signal.Signals) -> None:
    daemon = await serving(rig)
    assert await daemon.stop(number) == 0
    assert list((rig.stub.socket_dir / "deviceplugin").iterdir()) == []
    assert {name: rig.stub.live_streams(name) for name in ALL} == dict.fromkeys(ALL, 0)
    assert daemon.events("task_failed") == []


async def test_a_hung_driver_call_marks_the_vendor_and_not_the_daemon(
    rig: Rig, nvml: NvmlDouble
) -> None:
    daemon = await serving(rig)
    nvml.hang("nvmlDeviceGetMemoryInfo", gpu=2)
    await rig.allocatable(dict.fromkeys(ALL, 0))
    await daemon.answers("/healthz")
    assert (await daemon.wait_event("vendor_waits", vendor="nvidia"))["reason"]
    nvml.unhang()
    await rig.allocatable(ALL)


async def test_a_daemon_whose_driver_hangs_still_ends_on_sigterm(
    rig: Rig, nvml: NvmlDouble
) -> None:
    nvml.hang("nvmlDeviceGetMemoryInfo", gpu=2)
    daemon = rig.start()
    await daemon.wait_event("metrics_served")
    await asyncio.to_thread((rig.state_dir / "lock").exists)
    assert await daemon.stop() == 0
    nvml.unhang()


async def test_an_unhealthy_device_is_refused_with_the_reason_on_the_pod(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await serving(rig)
    nvml.lose(6)
    await rig.allocatable({MIG_3G: 0})
    (device_id,) = rig.stub.devices(MIG_3G)
    with pytest.raises(Exception, match=f"{MIG_3G}: device {device_id} is unhealthy"):
        await rig.stub.allocate(MIG_3G, [device_id])
    with pytest.raises(AdmissionError, match="no healthy devices present"):
        await rig.stub.admit("pod", {"main": {MIG_3G: 1}})


async def test_a_new_daemons_first_list_has_the_gpu_that_a_pod_holds_and_that_is_lost(
    rig: Rig, nvml: NvmlDouble
) -> None:
    # Under this policy the stub tells a list without an id that a pod holds as a crash.
    rig.stub = KubeletStub(rig.kubelet_dir, node_topology_policy="best-effort")
    daemon = await serving(rig)
    await rig.stub.admit("pod", {"main": {GPU: 6}})
    nvml.lose(3)
    daemon.kill()
    before = rig.stub.messages(GPU)
    rig.start()
    await rig.stub.wait_for(lambda: rig.stub.messages(GPU) > before, what="a list")
    assert rig.stub.devices(GPU)[GPU_3].health == "Unhealthy"
    assert rig.stub.crashes == []
