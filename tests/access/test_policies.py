"""What `render access` prints, judged without an API server; tests/e2e/test_access.py has one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.access.bypass import bypass_policy
from deviceplugin.access.policies import access_policies
from deviceplugin.cli.access import access_text
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError
from tests.access.policy import ACCOUNT, USER, Judge

HERE = Path(__file__).parent
DOCUMENT = """
security:
  access_control:
    roles:
      - name: gpu-admin
        permissions: [create, read, update, delete]
        subjects: ["group:gpu-admins"]
      - name: gpu-user
        permissions: [read, use]
        resources: [nvidia.com/gpu, amd.com/*, gpu.nvidia.com]
        namespaces: [team-a, team-b]
        subjects: ["user:alice", "serviceaccount:team-a/trainer"]
      - name: gpu-viewer
        permissions: [read]
  bypass: {}
"""
GPU, MIG = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
Object = dict[str, Any]


def rendered(path: Path, text: str, *, warn: bool = False) -> str:
    (path / "config.yaml").write_text(text)
    return access_text(load({"config": str(path / "config.yaml")})[0], warn=warn)


def policy(name: str) -> Object:
    """Of the names of a role about one name and one class."""
    made = [*access_policies([GPU, "big-gpus"]), *bypass_policy(["kube-system"])]
    return next(one for one in made if one["metadata"]["name"] == name)


def by(user: str = "alice", kind: str = "Pod", *groups: str) -> Object:
    return {
        "namespace": "team-a",
        "kind": {"kind": kind},
        "userInfo": {"username": user, "groups": [*groups]},
    }


def pod(*names: str, **more: Any) -> Object:
    """A container for each name, the first of them an init container."""
    made = [
        {"name": f"c{place}", "resources": {"limits": {name: "1", "cpu": "1"}}}
        for place, name in enumerate(names)
    ]
    return {"metadata": {}, "spec": {"containers": made[1:], "initContainers": made[:1], **more}}


def test_the_manifests_are_those_of_the_golden_file(tmp_path: Path) -> None:
    text, golden = rendered(tmp_path, DOCUMENT), HERE / "access.yaml"
    if os.environ.get("STORIES") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize(
    ("names", "rights", "refusal"),
    [
        ((), (), ""),
        (("cpu", "example.com/nic"), (), ""),
        ((GPU,), ((USER, GPU),), ""),
        ((GPU, GPU), ((USER, GPU),), ""),
        ((GPU, MIG), ((USER, GPU),), MIG),
        ((MIG, GPU), ((USER, MIG), (USER, GPU)), ""),
        ((GPU,), (), GPU),
        ((GPU,), ((ACCOUNT, GPU),), GPU),
        (("intel.com/intel_sriov_dpdk", "nvidia.com/hostdev"), (), ""),
        (("intel.com/xe-4gb",), (), "intel.com/xe-4gb"),
        (
            ("deviceclass.resource.kubernetes.io/gpu.amd.com",),
            (),
            "deviceclass.resource.kubernetes.io/gpu.amd.com",
        ),
        (("deviceclass.resource.kubernetes.io/nic.example.com",), (), ""),
    ],
)
def test_a_user_asks_for_what_it_may(
    names: tuple[str, ...], rights: tuple[tuple[str, str], ...], refusal: str
) -> None:
    found = Judge(policy("deviceplugin-access"), rights).refusal(pod(*names), by())
    assert found.startswith(f"user alice may not ask for {refusal} in" if refusal else found)
    assert bool(found) is bool(refusal)


@pytest.mark.parametrize(
    ("account", "user", "rights", "refused"),
    [
        ({}, CONTROLLER, ((ACCOUNT, GPU),), False),
        ({"serviceAccountName": "trainer"}, CONTROLLER, ((ACCOUNT, GPU),), False),
        ({"serviceAccountName": "trainer"}, CONTROLLER, (), True),
        ({}, "system:kube-controller-manager", ((ACCOUNT, GPU),), False),
        ({}, CONTROLLER, ((USER, GPU),), False),
    ],
    ids=["its-account", "a-named-account", "neither", "all-controllers-as-one", "its-own-right"],
)
def test_a_controller_asks_for_what_the_pod_s_account_may(
    account: Object, user: str, rights: tuple[tuple[str, str], ...], refused: bool
) -> None:
    found = Judge(policy("deviceplugin-access"), rights).refusal(pod(GPU, **account), by(user))
    text = f"service account team-a/{account.get('serviceAccountName', 'default')} may not ask for"
    assert found.startswith(text) if refused else found == ""


@pytest.mark.parametrize("kind", ["Deployment", "CronJob", "PodTemplate"])
def test_a_workload_is_judged_by_its_user_and_never_by_a_controller(kind: str) -> None:
    template = {"spec": pod(GPU)["spec"]}
    document: Object = {
        "Deployment": {"spec": {"template": template}},
        "CronJob": {"spec": {"jobTemplate": {"spec": {"template": template}}}},
        "PodTemplate": {"template": template},
    }[kind]
    judge = Judge(policy("deviceplugin-access"))
    assert "user alice may not" in judge.refusal(document, by("alice", kind))
    assert judge.refusal(document, by(CONTROLLER, kind)) == ""


def test_what_a_kubelet_has_of_files_is_not_refused() -> None:
    judge = Judge(policy("deviceplugin-access"))
    assert judge.refusal(pod(GPU), by("system:node:n1", "Pod", "system:nodes")) == ""


def test_more_kinds_than_there_are_places_are_refused() -> None:
    names = [f"amd.com/kind-{number}" for number in range(9)]
    judge = Judge(policy("deviceplugin-access"), {(USER, name) for name in names})
    assert judge.refusal(pod(*names[:8]), by()) == ""
    assert "at most 8 kinds of GPUs" in judge.refusal(pod(*names), by())


@pytest.mark.parametrize(
    ("request_", "rights", "refused"),
    [
        ({"exactly": {"deviceClassName": "gpu.nvidia.com"}}, ("gpu.nvidia.com",), ""),
        ({"exactly": {"deviceClassName": "gpu.nvidia.com"}}, (), "gpu.nvidia.com"),
        ({"deviceClassName": "mig.nvidia.com"}, (), "mig.nvidia.com"),
        ({"firstAvailable": [{"deviceClassName": "gpu.amd.com"}]}, (), "gpu.amd.com"),
        ({"exactly": {"deviceClassName": "big-gpus"}}, (), "big-gpus"),
        ({"exactly": {"deviceClassName": "nic.example.com"}}, (), ""),
    ],
)
@pytest.mark.parametrize("kind", ["ResourceClaim", "ResourceClaimTemplate"])
def test_a_claim_asks_for_classes_that_its_user_may(
    request_: Object, rights: tuple[str, ...], refused: str, kind: str
) -> None:
    spec: Object = {"devices": {"requests": [{"name": "one", **request_}]}}
    document = {"spec": spec if kind == "ResourceClaim" else {"spec": spec}}
    judge = Judge(policy("deviceplugin-access-claims"), {(USER, name) for name in rights})
    found = judge.refusal(document, by("alice", kind))
    assert (f"devices of class {refused} in" in found) if refused else found == ""
    own = by("system:serviceaccount:kube-system:resource-claim-controller", kind)
    own["userInfo"]["groups"] = ["system:serviceaccounts:kube-system"]
    assert judge.refusal(document, own) == ""


def _container(**own: Any) -> Object:
    return {"spec": {"containers": [{"name": "a", **own}]}, "metadata": {}}


def _path(path: str) -> Object:
    return {"spec": {"containers": [], "volumes": [{"hostPath": {"path": path}}]}, "metadata": {}}


def _variable(name: str, **own: Any) -> Object:
    return _container(env=[{"name": name, **own}])


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (_container(securityContext={"privileged": True}), "a privileged container"),
        (_container(securityContext={"privileged": False}), ""),
        (_container(), ""),
        *((_path(path), "a hostPath") for path in ("/", "//", "/dev", "/dev/", "/dev/nvidia0")),
        *((_path(path), "a hostPath") for path in ("//dev/dri", "/./dev/kfd", "/.", "/dev/vfio/1")),
        *((_path(path), "") for path in ("/data", "/dev/shm", "/dev/infiniband/uverbs0", "/devel")),
        (_variable("NVIDIA_VISIBLE_DEVICES", value="all"), "NVIDIA_VISIBLE_DEVICES"),
        (_variable("NVIDIA_VISIBLE_DEVICES", value="void"), ""),
        (_variable("NVIDIA_VISIBLE_DEVICES"), ""),
        (_variable("AMD_VISIBLE_DEVICES", valueFrom={"fieldRef": {}}), "AMD_VISIBLE_DEVICES"),
        (_variable("OTHER", value="all"), ""),
        (
            _container(volumeMounts=[{"mountPath": "/var/run/nvidia-container-devices/all"}]),
            "nvidia-container-devices",
        ),
        (
            {"spec": {"containers": []}, "metadata": {"annotations": {"cdi.k8s.io/a": "b"}}},
            "annotations cdi.k8s.io/",
        ),
        (
            {
                "spec": {
                    "containers": [],
                    "ephemeralContainers": [{"securityContext": {"privileged": True}}],
                },
                "metadata": {},
            },
            "a privileged container",
        ),
    ],
)
def test_a_pod_that_reaches_gpus_without_asking_is_refused(document: Object, text: str) -> None:
    found = Judge(policy("deviceplugin-bypass")).refusal(document, by())
    assert (text in found) if text else found == ""


def test_an_expression_has_no_more_checks_than_it_may_cost() -> None:
    """A third one exceeds the cost of an expression: seen with Kubernetes 1.36."""
    for name in ("deviceplugin-access", "deviceplugin-access-claims", "deviceplugin-bypass"):
        for rule in policy(name)["spec"]["validations"]:
            assert rule["expression"].count(".check(") <= 2


def test_a_policy_may_warn_alone(tmp_path: Path) -> None:
    for warn, action in ((True, "Warn"), (False, "Deny")):
        made = yaml.safe_load_all(rendered(tmp_path, DOCUMENT, warn=warn))
        bound = [one["spec"] for one in made if one["kind"].endswith("PolicyBinding")]
        assert [one["validationActions"] for one in bound] == [[action, "Audit"]] * 3


def test_only_namespaces_are_exempt_for_anybody_may_name_a_pod() -> None:
    _, binding = bypass_policy(["kube-system", "monitoring/dcgm-*", "team-*"])
    (rule,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert rule["values"] == ["kube-system"]


def test_bypass_alone_is_rendered_without_roles(tmp_path: Path) -> None:
    made = list(yaml.safe_load_all(rendered(tmp_path, "security: {bypass: {}}")))
    assert [one["metadata"]["name"] for one in made] == ["deviceplugin-bypass"] * 2


def test_without_roles_and_bypass_there_is_nothing_to_render(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"security\.access_control\.roles"):
        rendered(tmp_path, "security: {bypass: {enabled: false}}")


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ({"name": "admin"}, "another name than admin"),
        ({"name": "a", "resources": ["nvidia.com/mig-*"]}, "names such as nvidia.com/gpu"),
        ({"name": "a", "namespaces": ["Team"]}, "names of namespaces"),
        ({"name": "a", "subjects": ["alice"]}, "user:NAME, group:NAME or serviceaccount:"),
    ],
)
def test_a_role_that_cannot_be_is_refused_with_what_to_write(
    tmp_path: Path, role: Object, text: str
) -> None:
    document = json.dumps({"security": {"access_control": {"roles": [role]}}})
    with pytest.raises(ConfigError, match=text):
        rendered(tmp_path, document)
