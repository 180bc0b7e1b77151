"""What `render access` prints, held by a real API server: KUBECONFIG names it, with all rights.

No kubelet is needed. A pod is refused or taken by a dry run, which is judged as a request is; the
Deployment is a real one, for the controllers.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.cli.access import access_text
from deviceplugin.config.load import load
from tests.e2e.cluster import KubectlError, kubectl, until

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
IN, OUT, FREE = "e2e-access-team", "e2e-access-others", "e2e-access-operator"
MAKERS = "e2e-access-maker"
DOCUMENT = f"""
security:
  access_control:
    roles:
      - name: e2e-gpu-user
        permissions: [read, use]
        resources: [nvidia.com/gpu, amd.com/*, gpu.nvidia.com]
        namespaces: [{IN}]
        subjects: ["user:e2e-alice", "serviceaccount:{IN}/trainer"]
  bypass:
    allowed: [kube-system, {FREE}]
"""
KINDS = (
    "pods,pods/ephemeralcontainers,deployments.apps,jobs.batch,cronjobs.batch,"
    "resourceclaims.resource.k8s.io,resourceclaimtemplates.resource.k8s.io"
)
ALICE, BOB = ("--as", "e2e-alice"), ("--as", "e2e-bob")
GPU = {"limits": {"nvidia.com/gpu": "1"}}
Object = dict[str, Any]


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The manifests applied, and two users who may make pods in all three namespaces."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    path: Path = tmp_path_factory.mktemp("access") / "config.yaml"
    path.write_text(DOCUMENT)
    text = access_text(load({"config": str(path)})[0], warn=False)
    try:
        for name in (IN, OUT, FREE):
            kubectl("create", "namespace", name)
        kubectl("create", "clusterrole", MAKERS, "--verb=*", f"--resource={KINDS}")
        for name in (IN, OUT, FREE):
            who = ["--user=e2e-alice", "--user=e2e-bob", f"--group=system:serviceaccounts:{IN}"]
            kubectl("create", "rolebinding", MAKERS, "-n", name, f"--clusterrole={MAKERS}", *who)
        kubectl("create", "serviceaccount", "trainer", "-n", IN)
        kubectl("apply", "-f", "-", text=text)
        until(lambda: "may not ask" in refused(pod(GPU), BOB), "the policies are in force")
        until(lambda: "privileged" in refused(pod(privileged=True), ALICE), "that of bypass, too")
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "-f", "-", text=text)
        kubectl("delete", "--ignore-not-found", "clusterrole", MAKERS)
        kubectl("delete", "--ignore-not-found", "--wait=false", "namespace", IN, OUT, FREE)


pytestmark.append(pytest.mark.usefixtures("_cluster"))


def pod(resources: Object | None = None, *, account: str = "default", **own: Any) -> Object:
    """A pod of one container; `privileged`, `env`, `path` (of a hostPath), `also` (resources of
    an init container)."""
    container: Object = {"name": "main", "image": "none", "resources": resources or {}}
    if own.get("privileged"):
        container["securityContext"] = {"privileged": True}
    if "env" in own:
        container["env"] = [own["env"]]
    spec: Object = {"serviceAccountName": account, "containers": [container]}
    if "path" in own:
        spec["volumes"] = [{"name": "host", "hostPath": {"path": own["path"]}}]
    if "also" in own:
        spec["initContainers"] = [{"name": "first", "image": "none", "resources": own["also"]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "e2e"}, "spec": spec}


def workload(spec: Object) -> Object:
    labels = {"app": "e2e-access"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "e2e"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def claim(request: Object, kind: str = "ResourceClaim") -> Object:
    spec: Object = {"devices": {"requests": [{"name": "one", **request}]}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "e2e"},
        "spec": spec if kind == "ResourceClaim" else {"spec": spec},
    }


def ask(document: Object, who: Sequence[str], namespace: str = IN) -> None:
    """A dry run; raises KubectlError where it is refused."""
    text = yaml.safe_dump(document)
    kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", *who, text=text)


def refused(document: Object, who: Sequence[str], namespace: str = IN) -> str:
    """Why; empty where it is not."""
    try:
        ask(document, who, namespace)
    except KubectlError as error:
        return str(error)
    return ""


def account(name: str) -> Sequence[str]:
    """As a pod of that account would ask."""
    groups = ("--as-group", f"system:serviceaccounts:{IN}", "--as-group", "system:authenticated")
    return ("--as", f"system:serviceaccount:{IN}:{name}", *groups)


@pytest.mark.parametrize(
    ("document", "who", "namespace"),
    [
        (pod(GPU), ALICE, IN),
        (pod({"limits": {"amd.com/gpu": "1"}}), ALICE, IN),
        (pod(GPU, also={"limits": {"nvidia.com/gpu": "2"}}), ALICE, IN),
        (pod(GPU), (), OUT),
        (pod(), BOB, IN),
        (pod({"limits": {"intel.com/intel_sriov_netdevice": "1", "cpu": "1"}}), BOB, IN),
        (workload(pod(GPU)["spec"]), ALICE, IN),
        (claim({"exactly": {"deviceClassName": "gpu.nvidia.com"}}), ALICE, IN),
        (claim({"exactly": {"deviceClassName": "dra.example.com"}}), BOB, IN),
    ],
    ids=[
        *("who-may", "any-of-a-domain", "one-name-twice", "masters", "nobody-needs-a-gpu"),
        *("a-network-card", "a-deployment", "a-claim", "another-class"),
    ],
)
def test_what_may_be_asked_for_is_taken(
    document: Object, who: Sequence[str], namespace: str
) -> None:
    ask(document, who, namespace)


MIG = {"limits": {"nvidia.com/mig-1g.10gb": "1"}}
EITHER = {"firstAvailable": [{"name": "a", "deviceClassName": "gpu.amd.com"}]}
BY_CLASS = {"limits": {"deviceclass.resource.kubernetes.io/gpu.amd.com": "1"}}


@pytest.mark.parametrize(
    ("document", "who", "namespace", "text"),
    [
        (pod(GPU), BOB, IN, f"user e2e-bob may not ask for nvidia.com/gpu in namespace {IN}"),
        (pod(GPU), ALICE, OUT, f"may not ask for nvidia.com/gpu in namespace {OUT}"),
        (pod(MIG), ALICE, IN, "may not ask for nvidia.com/mig-1g.10gb"),
        (pod(GPU, also=MIG), ALICE, IN, "may not ask for nvidia.com/mig-1g.10gb"),
        (pod(BY_CLASS), ALICE, IN, "deviceclass.resource.kubernetes.io/gpu.amd.com"),
        (workload(pod(GPU)["spec"]), BOB, IN, "user e2e-bob may not ask for nvidia.com/gpu"),
        (claim({"exactly": {"deviceClassName": "gpu.nvidia.com"}}), BOB, IN, "class gpu.nvidia.co"),
        (claim(EITHER, "ResourceClaimTemplate"), ALICE, IN, "devices of class gpu.amd.com"),
    ],
    ids=[
        *("another-user", "another-namespace", "another-name", "beside-what-may-be"),
        *("by-class", "a-deployment", "a-claim", "a-template-of-alternatives"),
    ],
)
def test_what_may_not_be_asked_for_is_refused_with_what_to_do(
    document: Object, who: Sequence[str], namespace: str, text: str
) -> None:
    why = refused(document, who, namespace)
    assert text in why
    assert "RBAC's verb 'use'" in why


@pytest.mark.parametrize("count", [1, 8])
def test_a_pod_may_ask_for_as_many_kinds_as_there_are_places(count: int) -> None:
    """Each costs what two checks cost: the limit of an expression, and of all, is not reached."""
    limits = {f"amd.com/kind-{number}": "1" for number in range(count)}
    ask(pod({"limits": limits}, account="trainer"), account("trainer"))
    why = refused(pod({"limits": limits}), account("default"))
    assert "service account" in why
    assert "cost" not in why


def test_more_kinds_than_places_are_refused() -> None:
    limits = {f"amd.com/kind-{number}": "1" for number in range(9)}
    assert "at most 8 kinds of GPUs" in refused(pod({"limits": limits}), ALICE)


def test_a_controller_s_pod_is_judged_by_its_own_service_account() -> None:
    ask(pod(GPU, account="trainer"), account("default"))
    assert f"service account {IN}/default may not ask" in refused(pod(GPU), account("default"))


def test_a_user_has_nothing_of_the_pod_s_service_account() -> None:
    assert "user e2e-bob may not ask" in refused(pod(GPU, account="trainer"), BOB)


def test_a_deployment_gets_pods_by_the_right_of_its_service_account() -> None:
    for name in ("trainer", "default"):
        document = workload(pod(GPU, account=name)["spec"])
        document["metadata"]["name"] = f"e2e-{name}"
        document["spec"]["selector"]["matchLabels"]["one"] = name
        document["spec"]["template"]["metadata"]["labels"]["one"] = name
        kubectl("create", "-n", IN, "-f", "-", *ALICE, text=yaml.safe_dump(document))
    until(lambda: kubectl("get", "pods", "-n", IN, "-l", "one=trainer", "-o", "name"), "its pod")

    def reasons() -> str:
        found = json.loads(kubectl("get", "replicasets", "-n", IN, "-l", "one=default", "-o=json"))
        return json.dumps([one["status"].get("conditions", []) for one in found["items"]])

    until(lambda: f"service account {IN}/default may not ask" in reasons(), "why there is none")


EVERYTHING = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (pod(privileged=True), "a privileged container reaches every GPU"),
        (pod(path="/dev/nvidia0"), "a hostPath of / or /dev"),
        (pod(path="/"), "a hostPath of / or /dev"),
        (pod(path="//dev/./dri"), "a hostPath of / or /dev"),
        (pod(env=EVERYTHING), "NVIDIA_VISIBLE_DEVICES"),
    ],
    ids=["privileged", "device", "root", "device-by-another-spelling", "variable"],
)
def test_a_pod_that_reaches_gpus_without_asking_is_refused_but_where_it_is_allowed(
    document: Object, text: str
) -> None:
    why = refused(document, ALICE)
    assert text in why
    assert "ask for GPUs by resources.limits" in why
    ask(document, ALICE, FREE)


@pytest.mark.parametrize(
    "document",
    [
        pod(GPU),
        pod(path="/data"),
        pod(path="/dev/shm"),
        pod(path="/developers"),
        pod(env={**EVERYTHING, "value": "void"}),
    ],
    ids=["a-gpu", "data", "shared-memory", "another-name", "none-at-all"],
)
def test_a_pod_that_reaches_none_is_taken(document: Object) -> None:
    ask(document, ALICE)
