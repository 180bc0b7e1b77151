"""What the components of deploy/ make of the DaemonSet, as kubectl builds it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deviceplugin.metrics.section import MetricsSection
from deviceplugin.vendors.nvidia.mps import MpsSettings
from tests.deploy.test_manifests import COMPONENTS, DEPLOY, HOST_ROOT, ROOT, load

pytestmark = pytest.mark.slow
VENDORS = ("amd", "intel", "nvidia")
DRA_POLICY = "deviceplugin-dra"
kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl to build with")
Build = Callable[..., list[Any]]


@pytest.fixture
def built(tmp_path: Path) -> Build:
    """All objects of deploy/ with these components and patches enabled."""

    def build(*enabled: str) -> list[Any]:
        shutil.copytree(DEPLOY, tmp_path / "deploy", dirs_exist_ok=True)
        path = tmp_path / "deploy/kustomization.yaml"
        patches = [name for name in enabled if name.endswith(".yaml")]
        document = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
        components = [f"components/{name}" for name in enabled if name not in patches]
        document["components"] += components
        document["patches"] = [{"path": f"patches/{name}"} for name in patches]
        path.write_text(yaml.safe_dump(document))
        command = ["kubectl", "kustomize", str(path.parent)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        return list(yaml.safe_load_all(made.stdout))

    return build


def pod_of(objects: Iterable[Any]) -> Any:
    (daemonset,) = [one for one in objects if one["kind"] == "DaemonSet"]
    return daemonset["spec"]["template"]["spec"]


def mounts_of(pod: Any) -> dict[str, Any]:
    return {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}


def variables_of(pod: Any) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]}


def test_the_kustomization_names_every_component() -> None:
    text = (DEPLOY / "kustomization.yaml").read_text()
    named = set(re.findall(r"(?m)^(?:# )?  - components/(\S+)$", text))
    assert named == set(COMPONENTS)


def test_every_file_of_a_component_is_used() -> None:
    for name in COMPONENTS:
        folder = DEPLOY / "components" / name
        made = load(f"components/{name}/kustomization.yaml")
        used = {*made.get("resources", []), *(one["path"] for one in made.get("patches", []))}
        optional = {"taint-rbac.yaml"}
        assert {path.name for path in folder.iterdir()} - optional == used | {"kustomization.yaml"}


def test_shared_memory_and_terminals_of_the_host_are_covered() -> None:
    """Both are mounts of their own below /dev, which no read-only mount of /dev makes read-only."""
    pod = pod_of([load("daemonset.yaml")])
    mounts = mounts_of(pod)
    (volume,) = [one for one in pod["volumes"] if one["name"] == "nothing"]
    assert volume["emptyDir"] == {"sizeLimit": "1Mi"}
    for path in ("/dev/shm", "/dev/pts"):
        mount = mounts[HOST_ROOT + path]
        assert (mount["name"], mount["readOnly"]) == ("nothing", True)


@kubectl
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_cluster_of_one_vendor_mounts_what_that_vendor_reads_and_less_than_all(
    built: Build, vendor: str
) -> None:
    pod = pod_of(built(f"only-{vendor}"))
    mounts = mounts_of(pod)
    assert variables_of(pod)["DEVICEPLUGIN_VENDORS"] == vendor
    assert {mount["name"] for mount in mounts.values()} == {one["name"] for one in pod["volumes"]}
    gone = mounts_of(pod_of([load("daemonset.yaml")])).keys() - mounts.keys()
    assert gone
    code = (ROOT / "deviceplugin/vendors" / vendor).rglob("*.py")
    text = "".join(path.read_text() for path in code)
    for path in (path.removeprefix(HOST_ROOT) for path in gone):
        assert f'"{path}' not in text, f"{vendor} reads {path}"
    versions = "read_module_version" in text
    assert versions is (f"{HOST_ROOT}/sys/module" in mounts)


@kubectl
@pytest.mark.parametrize("vendor", ["amd", "intel"])
def test_without_nvidia_no_library_and_no_program_of_the_host_is_there(
    built: Build, vendor: str
) -> None:
    pod = pod_of(built(f"only-{vendor}"))
    assert not [path for path in mounts_of(pod) if path.startswith((f"{HOST_ROOT}/usr", "/usr"))]
    assert not [name for name in variables_of(pod) if name.startswith("NVIDIA_")]


@kubectl
@pytest.mark.parametrize("vendor", VENDORS)
def test_hardened_goes_with_each_vendor_in_the_order_of_the_kustomization(
    built: Build, vendor: str
) -> None:
    text = (DEPLOY / "kustomization.yaml").read_text()
    names = sorted(["hardened", f"only-{vendor}"], key=lambda name: text.index(f"/{name}\n"))
    pod = pod_of(built(*names))
    assert {one["name"] for one in mounts_of(pod).values()} == {v["name"] for v in pod["volumes"]}


@kubectl
def test_only_prometheus_and_the_extender_reach_the_daemon_by_default(built: Build) -> None:
    objects = built()
    (policy,) = [one for one in objects if one["kind"] == "NetworkPolicy"]
    (daemonset,) = [one for one in objects if one["kind"] == "DaemonSet"]
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    (port,) = pod_of(objects)["containers"][0]["ports"]
    assert [one["port"] for one in rule["ports"]] == [port["name"]]
    *namespaces, extender = rule["from"]
    assert all(one.keys() == {"namespaceSelector"} for one in namespaces)
    assert all(one["namespaceSelector"]["matchLabels"] for one in namespaces)
    deployment = load("scheduler/deployment.yaml")
    pods = deployment["spec"]["template"]["metadata"]["labels"]
    assert extender == {"podSelector": {"matchLabels": pods}}


def merged_metrics(*names: str) -> MetricsSection:
    section: dict[str, object] = {}
    for name in names:
        (text,) = load(f"components/{name}/config.yaml")["data"].values()
        section |= yaml.safe_load(text)["metrics"]
    return msgspec.convert(section, MetricsSection)


@kubectl
def test_tls_reads_the_secret_where_it_is_mounted(built: Build) -> None:
    section = merged_metrics("metrics-tls", "metrics-review")
    pod = pod_of(built("account", "metrics-tls", "metrics-review"))
    (mount,) = [m for m in mounts_of(pod).values() if m["name"] == "metrics-tls"]
    assert mount["readOnly"] is True
    assert "subPath" not in mount
    for path in (section.certificate_file, section.key_file, section.token_file):
        assert str(Path(str(path)).parent) == mount["mountPath"]
    assert section.token_review
    assert pod["automountServiceAccountToken"] is True


def test_the_right_to_review_tokens_is_the_only_one_that_review_gives() -> None:
    path = DEPLOY / "components/metrics-review/rbac.yaml"
    binding, role = yaml.safe_load_all(path.read_text())
    assert binding["roleRef"]["name"] == "system:auth-delegator"
    assert role["rules"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]


@kubectl
def test_hardened_asks_for_read_only_below_read_only_mounts_where_that_may_be_asked(
    built: Build,
) -> None:
    pod = pod_of(built("hardened", "selinux"))
    asked = {p: m for p, m in mounts_of(pod).items() if "recursiveReadOnly" in m}
    assert {f"{HOST_ROOT}/dev", f"{HOST_ROOT}/usr"} <= asked.keys()
    for mount in asked.values():
        assert mount["readOnly"] is True
        assert "mountPropagation" not in mount
    context = pod["securityContext"]
    assert context["appArmorProfile"] == {"type": "RuntimeDefault"}
    assert context["seLinuxOptions"] == {"type": "container_device_plugin_t"}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_admission_policy_is_about_our_configuration() -> None:
    path = DEPLOY / "components/config-writers/policy.yaml"
    policy, binding = yaml.safe_load_all(path.read_text())
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert "Deny" in binding["spec"]["validationActions"]
    (condition,) = policy["spec"]["matchConditions"]
    settings = load("config.yaml")["metadata"]
    namespace = load("components/namespace/kustomization.yaml")["namespace"]
    for name in (settings["name"], settings["namespace"], namespace):
        assert f'"{name}"' in condition["expression"]


@kubectl
@pytest.mark.parametrize("others", [(), ("namespace",)], ids=["kube-system", "its-own"])
def test_the_policy_of_slices_names_the_account_that_the_pods_run_as(
    others: tuple[str, ...], built: Build
) -> None:
    objects = built("account", "dra", *others)
    (daemonset,) = [one for one in objects if one["kind"] == "DaemonSet"]
    (policy,) = [
        one
        for one in objects
        if one["kind"] == "ValidatingAdmissionPolicy" and one["metadata"]["name"] == DRA_POLICY
    ]
    account = daemonset["spec"]["template"]["spec"]["serviceAccountName"]
    user = f"system:serviceaccount:{daemonset['metadata']['namespace']}:{account}"
    (condition,) = policy["spec"]["matchConditions"]
    assert condition["expression"].endswith(f"== '{user}'")


@kubectl
def test_directories_of_mps_are_a_small_file_system_that_the_daemon_did_not_mount(
    built: Build,
) -> None:
    pod = pod_of(built("nvidia-mps.yaml", "nvidia-mps-directories.yaml"))
    (first,) = pod["initContainers"]
    assert first["image"] == pod["containers"][0]["image"]
    root = MpsSettings().root
    assert {one["name"]: one["value"] for one in first["env"]} == {"SHM": f"{root}/shm"}
    assert first["volumeMounts"] == [
        {"name": "mps", "mountPath": root, "mountPropagation": "Bidirectional"}
    ]
    assert pod["containers"][0]["securityContext"]["privileged"] is False
    assert mounts_of(pod)["/dev/shm"]["name"] == "mps-shm"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_that_file_system_is_mounted_once_with_its_limits(tmp_path: Path) -> None:
    pod = load("patches/nvidia-mps-directories.yaml")["spec"]["template"]["spec"]
    (first,) = pod["initContainers"]
    (script,) = first["args"]
    look = "print(*[m for m in open('/proc/mounts') if f' {shm} ' in m], oct(os.stat(shm).st_mode))"
    assert first["command"][0] == "/opt/deviceplugin/bin/python"
    python = [sys.executable, *first["command"][1:], f"{script}\n{script}\n{look}"]
    made = subprocess.run(
        ["unshare", "--mount", *python],  # noqa: S607
        env={"SHM": str(tmp_path / "shm"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in made.stderr:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    mount, mode = made.stdout.splitlines()
    assert mount.split()[:3] == ["mps-shm", str(tmp_path / "shm"), "tmpfs"]
    assert {"noexec", "nosuid", "nodev", "size=65536k"} <= set(mount.split()[3].split(","))
    assert mode.strip() == "0o41777"


def test_nodes_of_mig_instances_take_one_right_and_one_folder_more() -> None:
    """A list in a patch replaces the whole list: what partitions has must be in it."""
    cuts, makes = (
        load(f"components/{name}/daemonset.yaml")["spec"]["template"]["spec"]["containers"][0]
        for name in ("partitions", "partitions-nodes")
    )
    assert cuts["name"] == makes["name"] == "provision"
    rights = [one["securityContext"]["capabilities"] for one in (cuts, makes)]
    assert rights[1] == rights[0] | {"add": [*rights[0]["add"], "MKNOD"]}
    assert [one["mountPath"] for one in makes["volumeMounts"]] == [f"{HOST_ROOT}/dev/nvidia-caps"]
