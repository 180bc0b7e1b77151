"""The daemon with a real kubelet and containers on simulated GPUs, without a cluster."""

import os
import signal

import pytest

from deviceplugin.kubelet.podresources import PodResources
from tests.e2e.standalone.node import AMD, CAPACITY, INTEL, StandaloneNode
from tests.rig import GPU, MIG_1G

RESTARTS = 20
FAIR_S = 0.1  # what a plugin needs that does not wait for a CPU


def fair_s() -> float:
    """FAIR_S, as much longer as processes wait for a CPU of this machine now."""
    return FAIR_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def held(node: StandaloneNode) -> dict[str, dict[str, set[str]]]:
    """By pod and resource the ids that PodResources lists."""
    api = PodResources(node.kubelet.directory / "pod-resources" / "kubelet.sock")
    answer = await api.read_reply()
    await api.forget()
    found: dict[str, dict[str, set[str]]] = {}
    for holding in answer.holdings:
        pod = found.setdefault(holding.holder.pod.removesuffix("-node-1"), {})
        pod.setdefault(holding.resource, set()).add(holding.id)
    return found


async def test_the_kubelet_counts_one_registration_of_each_resource(node: StandaloneNode) -> None:
    counts = node.kubelet.metric("kubelet_device_plugin_registration_total", "resource_name")
    assert counts == dict.fromkeys(CAPACITY, 1)


async def test_a_container_has_the_variables_and_nodes_of_its_devices(node: StandaloneNode) -> None:
    node.add_pod("pod", {GPU: 2, AMD: 2, INTEL: 1})
    inside = node.look_inside(await node.running("pod"))
    ids = (await held(node))["pod"]
    assert {name: len(found) for name, found in ids.items()} == {GPU: 2, AMD: 2, INTEL: 1}
    assert set(inside.environment["NVIDIA_VISIBLE_DEVICES"].split(",")) == ids[GPU]
    paths = {path for i in ids[AMD] | ids[INTEL] for path in node.devices[i]["nodes"]}
    seen = node.gpu_nodes(inside)
    assert {path for path in seen if "by-path" not in path} == paths | {"/dev/kfd"}
    assert seen == {path: (n.major, n.minor) for path, n in node.nodes.items() if path in seen}


async def test_a_container_may_open_its_own_nodes_and_no_other(node: StandaloneNode) -> None:
    node.add_pod("pod", {AMD: 1})
    container = await node.running("pod")
    inside = node.look_inside(container)
    mine = node.gpu_nodes(inside)
    assert {path: inside.errors[path] for path in mine} == dict.fromkeys(mine, "ENXIO")
    others = [n for path, n in node.nodes.items() if path not in mine and "renderD" in path]
    opened = {n.path: node.probe(container, "open", str(n.major), str(n.minor)) for n in others}
    assert set(opened.values()) == {"1\n"}  # EPERM, by the device cgroup


async def test_devices_of_an_init_container_go_to_the_container_after_it(
    node: StandaloneNode,
) -> None:
    node.add_pod("pod", {GPU: 2, AMD: 1}, init_until="/shared/go")
    first = node.look_inside(await node.running("pod", "init"))
    node.let_go("go")
    second = node.look_inside(await node.running("pod"))
    assert first.environment["NVIDIA_VISIBLE_DEVICES"]
    assert first.environment == second.environment
    assert node.gpu_nodes(first) == node.gpu_nodes(second)


async def test_running_containers_survive_twenty_kubelet_restarts(node: StandaloneNode) -> None:
    node.add_pod("pod", {GPU: 2, AMD: 2, INTEL: 1})
    before = await node.running("pod"), await held(node)
    for _ in range(RESTARTS):
        await node.restart_kubelet()
        assert (await node.running("pod"), await held(node)) == before
        assert node.statuses("pod")["main"]["restartCount"] == 0


@pytest.mark.timeout(400)
async def test_pods_with_init_containers_survive_twenty_kubelet_restarts(
    node: StandaloneNode,
) -> None:
    """Pods whose main container does not run are admitted like new ones, and that is fair_s() or
    more after the kubelet's socket appeared, or so early on a busy machine that no plugin is in
    time: such a restart is made again."""
    node.add_pod("initialised", {MIG_1G: 1}, init_until="/shared")
    node.add_pod("initialising", {GPU: 1, AMD: 1}, init_until="/shared/go")
    names = {"initialised": "main", "initialising": "init"}
    before = {pod: await node.running(pod, name) for pod, name in names.items()}
    survived = unfair = 0
    while survived < RESTARTS:
        await node.restart_kubelet()
        await node.until(
            lambda: all(
                node.phase(p) == "Failed" or node.container_id(p, c) for p, c in names.items()
            ),
            "every pod is admitted or not",
        )
        if rejected := node.kubelet.rejections():
            assert [r for r in rejected if r.after_s > fair_s()] == []
            unfair, before = unfair + 1, {}
            if unfair == RESTARTS:
                pytest.skip(f"too busy: {unfair} restarts left no time, {survived} were survived")
            continue
        after = {pod: node.container_id(pod, name) for pod, name in names.items()}
        assert after == before or not before
        survived, before = survived + bool(before), after
    print(f"{survived} restarts survived, {unfair} left no time")
    node.let_go("go")
    await node.running("initialising")


async def test_the_kubelet_counts_and_times_allocations(node: StandaloneNode) -> None:
    node.add_pod("pod", {GPU: 2, AMD: 1})
    await node.running("pod")
    name = "kubelet_device_plugin_alloc_duration_seconds"
    assert node.kubelet.metric(f"{name}_count", "resource_name") == {GPU: 1, AMD: 1}


async def test_a_killed_daemon_leaves_pods_alone_and_its_successor_serves_them(
    node: StandaloneNode,
) -> None:
    node.add_pod("pod", {GPU: 2})
    container = await node.running("pod")
    before = await held(node)
    await node.rig.daemons[0].stop(signal.SIGKILL)
    await node.allocatable({})
    node.rig.start()
    await node.all_allocatable()
    assert (await held(node), node.container_id("pod")) == (before, container)
    node.add_pod("later", {GPU: 4})
    later = node.look_inside(await node.running("later"))
    ids = set(later.environment["NVIDIA_VISIBLE_DEVICES"].split(","))
    assert not ids & before["pod"][GPU]


async def test_a_lost_gpu_cannot_be_allocated_until_it_answers_again(node: StandaloneNode) -> None:
    node.nvml.lose(3)
    await node.allocatable(CAPACITY | {GPU: 5})
    node.add_pod("all", {GPU: 6})
    await node.until(lambda: node.phase("all") == "Failed", "the pod is rejected")
    assert "UnexpectedAdmissionError" in node.kubelet.pods()["all"]["status"]["reason"]
    node.nvml.recover(3)
    await node.all_allocatable()
