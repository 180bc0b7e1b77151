"""Claims on a node of a real cluster: pods, containers, restarts, faults, both APIs at once."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import NAMESPACE, ROOT, ClusterNode, KubectlError, kubectl, manifests, until
from tests.e2e.dra import DraNode, overlay

pytestmark = pytest.mark.timeout(900)
EXAMPLES = sorted((ROOT / "deploy/examples/dra").glob("*.yaml"))
RESTARTS = 5


@pytest.fixture(scope="module")
def dra(cluster_node: ClusterNode) -> Iterator[DraNode]:
    """The node with both APIs; deploy/ alone again at the end."""
    if "resource.k8s.io/v1\n" not in kubectl("api-versions"):
        pytest.skip("the cluster does not serve resource.k8s.io/v1")
    image = os.environ["E2E_IMAGE"]
    node = DraNode(cluster_node)
    before = manifests(image, cluster_node.name)
    with_dra = overlay(image, cluster_node.name)
    known = {(one["kind"], one["metadata"]["name"]) for one in before}
    added = [one for one in with_dra if (one["kind"], one["metadata"]["name"]) not in known]
    kubectl("apply", "-f", "-", text=yaml.safe_dump_all(with_dra))
    try:
        until(node.slices, "slices are published")
        until(cluster_node.ready_daemon, "the daemon is ready")
        yield node
    finally:
        kubectl("apply", "-f", "-", text=yaml.safe_dump_all(before))
        kubectl("delete", "--ignore-not-found", "-f", "-", text=yaml.safe_dump_all(added))
        until(lambda: not node.slices(), "the kubelet has wiped the slices")
        until(cluster_node.ready_daemon, "the daemon is ready")


def a_class(dra: DraNode) -> str:
    """A class of which the node has a free device."""
    for device_class in ("gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com"):
        if any("taints" not in one for one in dra.devices(device_class).values()):
            return device_class
    pytest.skip("no device is free")


def test_every_device_of_the_inventory_is_in_a_complete_pool(dra: DraNode) -> None:
    for driver in {driver for driver, _ in dra.shown()}:
        slices = [one["spec"]["pool"] for one in dra.slices() if one["spec"]["driver"] == driver]
        assert {(p["name"], p["resourceSliceCount"]) for p in slices} == {
            (dra.node.name, len(slices))
        }
        names = {name for of, name in dra.shown() if of == driver}
        assert set(dra.devices(driver)) == names
    for one in dra.slices():
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Node", dra.node.name)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_pod_runs_with_the_nodes_of_its_devices(dra: DraNode, path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    namespace = documents[-1]["metadata"].get("namespace", "default")
    if reason := _lacking(dra, documents):
        pytest.skip(reason)
    with dra.applied(documents) as (name,):
        until(lambda: _phase(name, namespace) == "Running", f"{name} runs")
        results = dra.allocated(name, namespace)
        assert results
        seen = dra.seen_in(name, namespace)
        assert dra.nodes(results) <= seen
        assert not {p for p in dra.others(results) & seen if "render" in p or p[-1].isdecimal()}


def _phase(name: str, namespace: str) -> str:
    return str(kubectl("get", "pod", name, "-n", namespace, "-o", "jsonpath={.status.phase}"))


def _lacking(dra: DraNode, documents: list[Any]) -> str:
    """Why the node cannot run an example, empty where it can."""
    text = json.dumps(documents)
    if "allowMultipleAllocations" in text and not any(
        one.get("allowMultipleAllocations") for one in dra.devices("gpu.nvidia.com").values()
    ):
        return "no device of this node may be allocated several times"
    wanted = "gpu.amd.com" if "gpu.amd.com" in text else "gpu.nvidia.com"
    return "" if dra.devices(wanted) else f"the node has no device of {wanted}"


def test_a_claim_outlives_restarts_of_the_kubelet_and_a_killed_daemon(dra: DraNode) -> None:
    command = shlex.split(os.environ.get("E2E_RESTART_KUBELET", ""))
    if not command:
        pytest.skip("E2E_RESTART_KUBELET names no command that restarts the node's kubelet")
    with dra.applied(dra.claiming("e2e-outlives", a_class(dra))) as (name,):
        before = dra.node.main(name)["containerID"]
        results = dra.allocated(name)
        for _ in range(RESTARTS):
            published = {one["metadata"]["uid"] for one in dra.slices()}
            subprocess.run(command, check=True, timeout=120)
            until(
                lambda: dra.slices() and not published & _uids(dra),  # noqa: B023
                "the kubelet wiped the slices and they are back",
            )
            assert dra.node.main(name)["containerID"] == before
        dra.kill_daemon()
        until(lambda: _restarts(dra) == 1, "the daemon has been started again")
        until(dra.node.ready_daemon, "the daemon is ready")
        assert dra.node.main(name)["containerID"] == before
        assert dra.allocated(name) == results
        shown = dra.shown()
        for one in results:
            assert shown[one["driver"], one["device"]]["claims"] == [f"default/{name}"]
    until(lambda: not any(one["claims"] for one in dra.shown().values()), "nothing is held")


def test_a_rollout_costs_no_claim_and_no_slice(dra: DraNode) -> None:
    with dra.applied(dra.claiming("e2e-rollout", a_class(dra))) as (name,):
        before, results = dra.node.main(name)["containerID"], dra.allocated(name)
        published, old = _uids(dra), dra.node.ready_daemon()
        kubectl("rollout", "restart", "daemonset/deviceplugin", "-n", NAMESPACE)
        kubectl("rollout", "status", "daemonset/deviceplugin", "-n", NAMESPACE, "--timeout=170s")
        until(lambda: dra.node.ready_daemon() not in ("", old), "another pod serves")
        shown = dra.shown()
        for one in results:
            assert shown[one["driver"], one["device"]]["claims"] == [f"default/{name}"]
        assert dra.node.main(name)["containerID"] == before
        assert _uids(dra) == published
    with dra.applied(dra.claiming("e2e-rolled", a_class(dra))) as (name,):
        dra.node.main(name)


def _restarts(dra: DraNode) -> int:
    """How often the kubelet has started the daemon's container again."""
    (pod,) = dra.node.daemon_pods()
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def _uids(dra: DraNode) -> set[str]:
    return {one["metadata"]["uid"] for one in dra.slices()}


def test_a_faulty_device_is_tainted_and_free_again_after_its_recovery(dra: DraNode) -> None:
    driver = a_class(dra)
    name, device = next(
        (name, one["id"])
        for (of, name), one in sorted(dra.shown().items())
        if of == driver and not one["taints"]
    )
    dra.node.daemon("cordon", device, "--reason", "an end-to-end test")
    try:
        until(lambda: dra.devices(driver)[name].get("taints"), "the device is tainted")
        (taint,) = dra.devices(driver)[name]["taints"]
        assert taint["effect"] == "NoSchedule"
        assert taint["key"].startswith(f"{driver}/")
        others = [one for one in dra.devices(driver) if one != name]
        assert others
        wanted = f'device.attributes["{driver}"].type == "none" || {_is(dra, driver, name)}'
        with dra.applied(dra.claiming("e2e-tainted", driver, wanted)) as (pod,):
            until(lambda: "cannot allocate" in _message(pod), "the pod is not scheduled")
            dra.node.daemon("uncordon", device)
            until(lambda: "taints" not in dra.devices(driver)[name], "the taint is gone")
            dra.node.main(pod)
            (result,) = dra.allocated(pod)
            assert result["device"] == name
    finally:
        dra.node.daemon("uncordon", device)


def _is(dra: DraNode, driver: str, name: str) -> str:
    """An expression that only this device fulfils."""
    attributes = dra.devices(driver)[name]["attributes"]
    if "uuid" in attributes:
        uuid = attributes["uuid"]["string"]
        return f'device.attributes["{driver}"].?uuid.orValue("") == "{uuid}"'
    address = attributes["resource.kubernetes.io/pciBusID"]["string"]
    return f'device.attributes["resource.kubernetes.io"].pciBusID == "{address}"'


def _message(pod: str) -> str:
    path = "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}"
    return str(kubectl("get", "pod", pod, "-o", path))


def test_both_apis_serve_one_node_and_neither_what_the_other_has_given(dra: DraNode) -> None:
    driver = a_class(dra)
    resource = {"gpu.nvidia.com": "nvidia.com/gpu", "gpu.amd.com": "amd.com/gpu"}.get(driver)
    free = dra.node.resources("capacity").get(resource or "", 0)
    if resource is None or free < 2:
        pytest.skip("both APIs need a device of their own")
    until(lambda: dra.node.resources("allocatable")[resource] == free, "all are free")
    with (
        dra.node.pod(dra.node.holding("e2e-plugin", {resource: 1})) as plugin,
        dra.applied(dra.claiming("e2e-claim", driver)) as (claim,),
    ):
        dra.node.main(plugin)
        dra.node.main(claim)
        (result,) = dra.allocated(claim)
        until(lambda: _in_use(dra, driver), "what the device plugin gave is tainted")
        assert result["device"] not in _in_use(dra, driver)
        until(
            lambda: dra.node.resources("allocatable")[resource] == free - 1,
            "what the claim has is not allocatable",
        )
        last = dra.node.holding("e2e-last", {resource: free - 1})  # one more than is free
        with dra.node.pod(last):
            until(lambda: "Insufficient" in _message("e2e-last"), "it is not scheduled")
        taken = _in_use(dra, driver)[0]
        wanted = dra.claiming("e2e-taken", driver, _is(dra, driver, taken))
        tolerating = wanted[0]["spec"]["devices"]["requests"][0]["exactly"]
        tolerating["tolerations"] = [{"operator": "Exists"}]  # the scheduler gives it all the same
        with dra.applied(wanted) as (refused,):
            until(lambda: "is in use as" in _events(refused), "the daemon refuses it")
            assert _phase(refused, "default") == "Pending"
    until(lambda: not _in_use(dra, driver), "it is free again")


def _in_use(dra: DraNode, driver: str) -> list[str]:
    key = f"{driver}/in-use"
    return [
        name
        for name, one in dra.devices(driver).items()
        if any(taint["key"] == key for taint in one.get("taints", ()))
    ]


def _events(pod: str) -> str:
    selector = f"involvedObject.name={pod}"
    return kubectl("get", "events", "--field-selector", selector, "-o", "jsonpath={..message}")


def test_the_policy_denies_a_daemon_the_slices_of_another_node(dra: DraNode) -> None:
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", dra.node.ready_daemon())
    token = kubectl("create", "token", "deviceplugin", "-n", NAMESPACE, *bound).strip()
    (one, *_) = dra.slices()
    one["metadata"] = {"name": "e2e-foreign"}
    one["spec"]["nodeName"] = one["spec"]["pool"]["name"] = "another-node"
    with pytest.raises(KubectlError, match="may write the slices of node"):
        kubectl("create", "--token", token, "-f", "-", text=json.dumps(one))
