"""deploy/ on a node of a real cluster: capacity, pods, containers, health, restarts."""

import json
import os
import shlex
import subprocess
from contextlib import nullcontext

import pytest

from tests.e2e.cluster import NAMESPACE, ClusterNode, kubectl, until

pytestmark = pytest.mark.timeout(900)
RESTARTS = 20


@pytest.fixture
def resource(cluster_node: ClusterNode) -> str:
    """The resource of which the node has most."""
    counts = cluster_node.resources("allocatable")
    return max(counts, key=lambda name: counts[name])


def test_all_devices_are_capacity_and_can_be_allocated(cluster_node: ClusterNode) -> None:
    report = json.loads(cluster_node.daemon("discover", "--format", "json"))
    listed = {name: len(entries) for name, entries in report["resources"].items() if entries}
    until(lambda: cluster_node.resources("capacity") == listed, f"capacity {listed}")
    healthy = {
        name: sum(entry["health"] == "Healthy" for entry in entries)
        for name, entries in report["resources"].items()
    }
    assert cluster_node.resources("allocatable") == {n: c for n, c in healthy.items() if c}


def test_a_container_has_the_nodes_of_its_devices(cluster_node: ClusterNode) -> None:
    report = json.loads(cluster_node.daemon("discover", "--format", "json"))
    nodes = {device["id"]: device["nodes"] for device in report["devices"]}
    for wanted in cluster_node.resources("allocatable"):
        with cluster_node.pod(cluster_node.holding("e2e-nodes", {wanted: 1})) as name:
            cluster_node.main(name)
            environment = kubectl("exec", name, "--", "env")
            seen = kubectl("exec", name, "--", "find", "/dev", "-type", "c").split()
            (device,) = until(lambda: cluster_node.health(name), "allocatedResourcesStatus")
            if "NVIDIA_VISIBLE_DEVICES" in environment:
                assert device in environment
            else:
                assert set(nodes[device]) <= set(seen)
            others = {path for other in nodes for path in nodes[other]} - set(nodes[device])
            assert {path for path in others & set(seen) if "render" in path} == set()


def test_the_status_of_a_pod_tells_the_health_of_its_device(
    cluster_node: ClusterNode, resource: str
) -> None:
    with cluster_node.pod(cluster_node.holding("e2e-health", {resource: 1})) as name:
        cluster_node.main(name)
        before = until(lambda: cluster_node.health(name), "allocatedResourcesStatus")
        assert set(before.values()) == {"Healthy"}
        (device,) = before
        count = cluster_node.resources("allocatable")[resource]
        cluster_node.daemon("cordon", device, "--reason", "an end-to-end test")
        try:
            until(lambda: cluster_node.health(name) == {device: "Unhealthy"}, "Unhealthy")
            left = {resource: count - 1} if count > 1 else {}
            until(lambda: left.items() <= cluster_node.resources("allocatable").items(), "one less")
        finally:
            cluster_node.daemon("uncordon", device)
        until(lambda: cluster_node.health(name) == before, "Healthy again")
        until(lambda: cluster_node.resources("allocatable")[resource] == count, "as many as before")


def test_a_killed_daemon_comes_back_and_costs_no_pod(
    cluster_node: ClusterNode, resource: str
) -> None:
    capacity = cluster_node.resources("capacity")
    with cluster_node.pod(cluster_node.holding("e2e-kill", {resource: 1})) as name:
        before = cluster_node.main(name)["containerID"]
        killed = cluster_node.ready_daemon()
        kubectl("delete", "pod", "-n", NAMESPACE, killed, "--grace-period=0", "--force")
        until(lambda: cluster_node.ready_daemon() not in ("", killed), "another daemon is ready")
        until(lambda: cluster_node.resources("allocatable") == capacity, "all can be allocated")
        assert cluster_node.main(name)["containerID"] == before
    with cluster_node.pod(cluster_node.holding("e2e-after", {resource: 1})) as name:
        cluster_node.main(name)


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside a busy pod"])
def test_restarts_of_the_kubelet_cost_no_pod(
    cluster_node: ClusterNode, resource: str, busy: bool
) -> None:
    command = shlex.split(os.environ.get("E2E_RESTART_KUBELET", ""))
    if not command:
        pytest.skip("E2E_RESTART_KUBELET names no command that restarts the node's kubelet")
    capacity = cluster_node.resources("capacity")
    with (
        cluster_node.pod(cluster_node.neighbour("e2e-busy")) if busy else nullcontext(),
        cluster_node.pod(cluster_node.holding("e2e-restart", {resource: 1}, init=True)) as name,
    ):
        before = cluster_node.main(name)["containerID"]
        for _ in range(RESTARTS):
            seen = cluster_node.registrations(resource)
            subprocess.run(command, check=True, timeout=120)
            until(lambda: cluster_node.registrations(resource) > seen, "registered again")  # noqa: B023
            until(lambda: cluster_node.resources("allocatable") == capacity, "all can be allocated")
            assert cluster_node.main(name)["containerID"] == before
        later = cluster_node.holding("e2e-later", {resource: 1})
        with cluster_node.pod(later) as second:
            cluster_node.main(second)
        assert cluster_node.main(name)["containerID"] == before
