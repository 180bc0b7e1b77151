"""The chart on a node of a real cluster: install, upgrade, roll back, remove, beside a pod."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import NAME, NAMESPACE, ROOT, ClusterNode, kubectl, until
from tests.e2e.conftest import skip_if_taken

pytestmark = pytest.mark.timeout(900)
CHART, RELEASE = ROOT / "deploy/charts/deviceplugin", "e2e-gpus"
ACCOUNT = (NAME, "--ignore-not-found")  # of components that ask the API server alone


def helm(*arguments: str, text: str = "") -> str:
    """What `helm …` prints, for the release's namespace."""
    done = subprocess.run(
        ["helm", *arguments, "--namespace", NAMESPACE],  # noqa: S607  # the one on PATH
        input=text,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(node: ClusterNode, *, events: bool) -> str:
    """Values for one node; JSON is YAML."""
    repository, _, tag = os.environ["E2E_IMAGE"].rpartition(":")
    return json.dumps(
        {
            "image": {"repository": repository, "tag": tag},
            "nodeSelector": {"kubernetes.io/hostname": node.name},
            "check": {"enabled": True},
            "components": {"events": events},
        }
    )


@pytest.fixture
def release(named_node: ClusterNode) -> Iterator[ClusterNode]:
    """The node with the chart installed, and removed where the test did not get so far."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not on PATH")
    skip_if_taken()
    helm("install", RELEASE, str(CHART), "--wait", "-f", "-", text=values(named_node, events=False))
    try:
        until(lambda: named_node.resources("allocatable"), "the node can allocate a GPU resource")
        yield named_node
    finally:
        helm("uninstall", RELEASE, "--wait", "--ignore-not-found")


def seen(node: ClusterNode, name: str) -> tuple[str, int, str]:
    """The container, how often it was started again, and the devices and variables it has."""
    status = node.main(name)
    sees = kubectl("exec", name, "--", "sh", "-c", "env | sort; find /dev -type c | sort")
    return status["containerID"], status["restartCount"], sees


def test_a_pod_keeps_its_gpu_through_upgrade_rollback_and_removal(release: ClusterNode) -> None:
    node = release
    capacity = node.resources("allocatable")
    wanted = max(capacity, key=lambda name: capacity[name])
    with node.pod(node.holding("e2e-chart", {wanted: 1})) as name:
        before = seen(node, name)
        for step, account in (("upgrade", True), ("rollback", False)):
            old = node.ready_daemon()
            if step == "upgrade":
                new = values(node, events=True)
                helm("upgrade", RELEASE, str(CHART), "--wait", "-f", "-", text=new)
            else:
                helm("rollback", RELEASE, "1", "--wait")
            until(lambda: node.ready_daemon() not in ("", old), f"a new daemon: {step}")  # noqa: B023
            until(lambda: node.resources("allocatable") == capacity, f"all is back: {step}")
            assert bool(kubectl("get", "serviceaccount", "-n", NAMESPACE, *ACCOUNT)) is account
            assert seen(node, name) == before, step
        helm("uninstall", RELEASE, "--wait")
        until(lambda: not node.daemon_pods(), "the daemon is gone")
        until(lambda: not node.resources("allocatable"), "nothing can be allocated")
        assert seen(node, name) == before
