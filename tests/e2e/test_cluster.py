"""deploy/ on a node of a real cluster: capacity, pods, containers, health, restarts."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.examples import EXAMPLES, GIVEN, pod_spec, requests, three_vendors
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


# For all examples that it suits; those that divide GPUs differently have their own.
SHARED = "\n".join(
    given.config
    for given in GIVEN.values()
    if given.node is three_vendors and "rules" not in given.config
)
LOOK = 'env; find /dev -type c; exec "$@"'


def config_of(path: Path) -> str:
    """The daemon's configuration for an example."""
    own = GIVEN[path.stem].config
    return own if "rules" in own else SHARED


BY_CONFIG: list[Path] = sorted(EXAMPLES, key=config_of)


@pytest.fixture(scope="module")
def own_config(cluster_node: ClusterNode) -> Iterator[None]:
    """The node has the configuration of deploy/ again after the examples."""
    before = cluster_node.config()
    yield
    cluster_node.configure(before)


def example_pod(path: Path, node: ClusterNode) -> dict[str, Any]:
    """The pod of an example, that of a Deployment too, which prints first what it sees."""
    manifest: dict[str, Any] = yaml.safe_load(path.read_text())
    spec = pod_spec(manifest)
    (container,) = spec["containers"]
    wanted = {name for name, _ in requests(container)}
    absent = wanted - node.resources("allocatable").keys()
    if absent:
        pytest.skip(f"the node has no {', '.join(sorted(absent))}")
    if "busybox" in container["image"]:
        container["image"] = node.pod_image
    container["command"] = ["sh", "-c", LOOK, "sh", *container["command"]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": path.stem}, "spec": spec}


def missing(path: Path, lines: Sequence[str]) -> list[str]:
    """Variables and nodes that the example's container should see and does not."""
    given = GIVEN[path.stem]
    here = given.node is three_vendors  # another kind of node has other values and nodes
    ends = {name: (end or "") if here else "" for name, end in given.env.items()}
    unset = [
        name
        for name, end in ends.items()
        if not any(line.startswith(f"{name}=") and line.endswith(end) for line in lines)
    ]
    nodes = given.nodes if here else ()
    return [*unset, *(n for n in nodes if not any(line.startswith(n) for line in lines))]


@pytest.mark.usefixtures("own_config")
@pytest.mark.parametrize("path", BY_CONFIG, ids=lambda path: path.stem)
def test_an_example_pod_sees_its_devices_and_ends_well(
    cluster_node: ClusterNode, path: Path
) -> None:
    """What a Deployment makes does not end."""
    cluster_node.configure(config_of(path))
    with cluster_node.pod(example_pod(path, cluster_node)) as name:
        if yaml.safe_load(path.read_text())["kind"] == "Deployment":
            cluster_node.main(name)
        else:
            ended = until(
                lambda: {"Succeeded", "Failed"} & {cluster_node.pod_status(name)["phase"]},
                "it ends",
            )
            assert ended == {"Succeeded"}, kubectl("logs", name)
        until(lambda: not missing(path, kubectl("logs", name).splitlines()), "it sees its devices")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_api_server_takes_an_example_as_it_is(cluster_node: ClusterNode, path: Path) -> None:
    kubectl("apply", "--dry-run=server", "-f", str(path))


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
