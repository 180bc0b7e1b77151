"""A node of a cluster with deploy/ applied; tests are skipped where the environment names none."""

import os
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.cluster import NAME, NAMESPACE, ClusterNode, kubectl, manifests, until

_NEEDED = {
    "KUBECONFIG": "no cluster: KUBECONFIG is not set",
    "E2E_NODE": "E2E_NODE names no node of the cluster",
    "E2E_IMAGE": "E2E_IMAGE names no image of the daemon that the node can pull",
}


@pytest.fixture(scope="session")
def named_node() -> ClusterNode:
    """The node that E2E_NODE names."""
    for name, reason in _NEEDED.items():
        if not os.environ.get(name):
            pytest.skip(reason)
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    return ClusterNode(os.environ["E2E_NODE"], os.environ.get("E2E_POD_IMAGE", "busybox:1.37"))


def skip_if_taken() -> None:
    """Skips where the cluster has the daemon already."""
    if kubectl("get", "daemonset", NAME, "-n", NAMESPACE, "--ignore-not-found"):
        pytest.skip(
            f"the cluster has a daemonset {NAMESPACE}/{NAME}, which the tests would replace"
        )


@pytest.fixture(scope="session")
def cluster_node(named_node: ClusterNode) -> Iterator[ClusterNode]:
    """The node with deploy/ applied to it alone, and removed at the end."""
    skip_if_taken()
    node = named_node
    applied = yaml.safe_dump_all(manifests(os.environ["E2E_IMAGE"], node.name))
    kubectl("apply", "-f", "-", text=applied)
    try:
        until(node.ready_daemon, "the daemon is ready")
        until(lambda: node.resources("allocatable"), "the node can allocate a GPU resource")
        yield node
    finally:
        kubectl("delete", "--wait=true", "-f", "-", text=applied)
