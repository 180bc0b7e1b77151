"""What a person applies to a cluster: strict, consistent with the daemon, and enough for it."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin import alive
from deviceplugin.cli import cli
from deviceplugin.host.runtimes import CRIO_FILE
from deviceplugin.metrics import http as metrics_server
from deviceplugin.testing.amd import write_amd_node
from deviceplugin.vendor import Agent
from deviceplugin.vendors.amd.agent import EXPORTER
from deviceplugin.vendors.intel.agent import XPUMD
from deviceplugin.vendors.intel.links import FOLDER
from deviceplugin.vendors.nvidia.agent import DEVICE_API
from deviceplugin.vendors.nvidia.extras import KINDS
from deviceplugin.vendors.nvidia.mps import MpsSettings
from deviceplugin.vendors.nvidia.platforms import CSV_FOLDER, MODEL, RELEASE
from tests.rig import run_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())
FILES = sorted(p for p in DEPLOY.rglob("*.yaml") if p.name not in ("rbac.yaml", "policy.yaml"))
FILES = [path for path in FILES if path.name != "taint-rbac.yaml"]
FILES = [path for path in FILES if path.parent.name != "prometheus"]  # its own files
FILES = [path for path in FILES if DEPLOY / "charts" not in path.parents]  # templates and copies
# A pod and its claim belong together.
FILES = [path for path in FILES if path.parent != DEPLOY / "examples/dra"]
WRITTEN = {"/var/lib/kubelet/device-plugins", "/var/run/cdi", "/var/lib/deviceplugin"}
HOST_ROOT = "/host"
GDS = KINDS["gds"]
AGENTS = (EXPORTER, XPUMD, DEVICE_API)
PATCHES = sorted(path.name for path in (DEPLOY / "patches").glob("*.yaml"))
# Read where root may and left out of the pod on purpose: docs/security.md tells how to add it.
# debugfs is for root on the host alone; the boot id is the same in every container's own /proc.
# The daemon's own process is in its own /proc. Agents' sockets come with a patch for each agent.
NOT_MOUNTED = (
    *(agent.socket for agent in AGENTS),
    *("/sys/kernel/debug", "/proc/sys/kernel/random/boot_id"),
    # That of others comes with components/processes.
    *("/proc/self", "/proc/stat", "/proc/{pid}/"),
    # Who has a device open, and which major a node has, is asked by `provision` alone, which is no
    # part of the daemon.
    *("/proc/{name}", "/proc/{process}/fd", "/proc/1/ns/mnt", "/proc/devices"),
    # On a Jetson alone, and for GPUDirect Storage: a patch for each.
    *("/etc/nv_tegra_release", "/etc/nvidia-container-runtime", "/proc/device-tree"),
    *("/run/udev", "/etc/cufile.json"),
    # In a runtime's own words and in our own mounts, never opened; CRI-O's comes with its patch.
    *("/run/cdi", "/etc/resolv.conf", "/etc/hostname", "/etc/crio", "/etc/ld.so.preload"),
)


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.fixture
def daemonset() -> Any:
    return load("daemonset.yaml")


@pytest.fixture
def pod(daemonset: Any) -> Any:
    return daemonset["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_file_is_one_object(path: Path) -> None:
    (document,) = yaml.safe_load_all(path.read_text())
    assert document["kind"]
    assert document["apiVersion"]


def test_the_pod_has_no_privilege(pod: Any, container: Any) -> None:
    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert pod["serviceAccountName"] == "default"


def test_the_pod_is_scheduled_before_and_beside_everything(pod: Any, daemonset: Any) -> None:
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert daemonset["metadata"]["namespace"] == "kube-system"
    assert daemonset["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1},
    }


def test_only_three_host_directories_can_be_written(pod: Any, container: Any) -> None:
    host_paths = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
    mounts = container["volumeMounts"]
    assert {m["name"] for m in mounts} == {v["name"] for v in pod["volumes"]}
    written = {host_paths[m["name"]] for m in mounts if not m.get("readOnly")}
    assert written == WRITTEN
    assert "/" not in host_paths.values()


def test_a_host_path_is_mounted_where_the_daemon_looks_for_it(pod: Any, container: Any) -> None:
    host_paths = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
    own = WRITTEN | {"/var/lib/kubelet/pod-resources"}
    for mount in container["volumeMounts"]:
        if path := host_paths.get(mount["name"]):
            assert mount["mountPath"] == (path if path in own else HOST_ROOT + path)


def read_paths() -> Iterator[tuple[str, str]]:
    """Host paths that stand in the code of vendors and host reads, with the file's name."""
    for folder in ("vendors", "host"):
        for path in sorted((ROOT / "deviceplugin" / folder).rglob("*.py")):
            for found in re.findall(r'"(/(?:sys|proc|dev|run|usr|etc)/[^"…]+)"', path.read_text()):
                yield found, path.name


@pytest.mark.parametrize(("path", "file"), sorted(set(read_paths())))
def test_every_path_that_is_read_is_mounted(path: str, file: str, container: Any) -> None:
    mounted = [m["mountPath"] for m in container["volumeMounts"]]
    ways = [f"{HOST_ROOT}{path}/".startswith(f"{m}/") for m in mounted]
    assert any(ways) or path.startswith(NOT_MOUNTED), f"{file} reads {path}"


def variables(container: Any) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"] if "value" in e}


def test_settings_are_variables_so_that_every_command_in_the_pod_has_them(container: Any) -> None:
    """An argument of `run` is none of `discover`, which a person types into the same container."""
    assert container["args"] == ["run"]
    given = variables(container)
    assert given["DEVICEPLUGIN_HOST_ROOT"] == HOST_ROOT
    config = next(m for m in container["volumeMounts"] if m["name"] == "config")
    assert given["DEVICEPLUGIN_CONFIG"] == config["mountPath"]


@pytest.mark.slow
def test_discover_in_the_pod_looks_where_run_looks(container: Any, tmp_path: Path) -> None:
    write_amd_node(tmp_path)
    settings = tmp_path / "config.yaml"
    settings.write_text("")
    places = {"DEVICEPLUGIN_HOST_ROOT": str(tmp_path), "DEVICEPLUGIN_CONFIG": str(settings)}
    found = run_command("discover", "--format", "json", **variables(container) | places)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["resources"]["amd.com/gpu"]


def test_the_configuration_is_mounted_so_that_it_can_change(container: Any) -> None:
    assert [m["name"] for m in container["volumeMounts"] if "subPath" in m] == []


def test_variables_of_the_daemon_exist(container: Any) -> None:
    known = {f"DEVICEPLUGIN_{p.name}".upper() for p in cli.commands["run"].params}
    names = {entry["name"] for entry in container["env"]}
    assert {name for name in names if name.startswith("DEVICEPLUGIN_")} <= known


PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]


def test_readiness_asks_for_a_path_that_is_served(container: Any) -> None:
    (port,) = container["ports"]
    address = variables(container)["DEVICEPLUGIN_METRICS_ADDRESS"]
    assert address.endswith(f":{port['containerPort']}")
    request = container["readinessProbe"]["httpGet"]
    assert request["port"] == port["name"]
    assert f'"{request["path"]}"' in Path(metrics_server.__file__).read_text()
    assert container["readinessProbe"]["timeoutSeconds"] > metrics_server.LOOP_S


@pytest.mark.parametrize("probe", PROBES[:2])
def test_what_the_kubelet_kills_for_is_asked_where_no_stranger_is(
    probe: str, container: Any
) -> None:
    """Sixteen silent connections once kept `httpGet` from its answer, on any node."""
    command = container[probe]["exec"]["command"]
    assert command[1:3] == ["-I", "-S"]
    assert len(command) == 4  # no process id: with `hostPID` the daemon is not process 1
    assert f"cp deviceplugin/alive.py {command[3]}\n" in Path("Dockerfile").read_text()
    assert container[probe]["timeoutSeconds"] > alive.WAIT_S


def test_nothing_is_asked_before_a_normal_start_is_over(container: Any) -> None:
    """Other probes wait for this one, which waits for 5 s: serving took 3 s in a pod."""
    startup = container["startupProbe"]
    assert startup["initialDelaySeconds"] == 5
    assert startup["exec"] == container["livenessProbe"]["exec"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 120
    assert all("initialDelaySeconds" not in container[probe] for probe in PROBES[1:])


def test_the_pod_has_the_cpu_to_register_beside_a_busy_neighbour(container: Any) -> None:
    """Measured: with 20m a restarted kubelet waited for up to 11 s and killed 3 of 4 pods, with
    200m for less than 0.5 s, and none."""
    cpu = container["resources"]["requests"]["cpu"]
    assert cpu.endswith("m")
    assert int(cpu.removesuffix("m")) >= 200


OWN, NFD = "deviceplugin/run", "feature.node.kubernetes.io"
KERNEL = {f"{NFD}/kernel-version.full": "6.8.0", "kubernetes.io/os": "linux"}


def matches(term: Any, labels: dict[str, str]) -> bool:
    operators: dict[str, Callable[[str | None, list[str]], bool]] = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, _: value is not None,
        "DoesNotExist": lambda value, _: value is None,
    }
    return all(
        operators[e["operator"]](labels.get(e["key"]), e.get("values", []))
        for e in term["matchExpressions"]
    )


@pytest.mark.parametrize(
    ("labels", "runs"),
    [
        ({}, True),
        ({"kubernetes.io/os": "linux"}, True),
        ({OWN: "false"}, False),
        ({"kubernetes.io/os": "windows"}, False),
        ({"type": "virtual-kubelet"}, False),
        (KERNEL, False),
        (KERNEL | {OWN: "true"}, True),
        (KERNEL | {f"{NFD}/pci-0302_10de.present": "true"}, True),
        (KERNEL | {f"{NFD}/pci-10de.present": "true"}, True),
        (KERNEL | {f"{NFD}/pci-1200_1002.present": "true"}, True),
        (KERNEL | {f"{NFD}/pci-0380_8086.present": "true"}, True),
        (KERNEL | {"intel.feature.node.kubernetes.io/gpu": "true"}, True),
        (KERNEL | {f"{NFD}/pci-0300_10de.present": "true", OWN: "false"}, False),
        (KERNEL | {f"{NFD}/pci-0300_1a03.present": "true"}, False),
    ],
    ids=[
        "nothing labels nodes",
        "a node of any cluster",
        "labelled not to",
        "windows",
        "a virtual node",
        "NFD found no GPU",
        "NFD found none, a person did",
        "NVIDIA, class and vendor",
        "NVIDIA, vendor alone",
        "AMD's accelerators",
        "Intel's displays without outputs",
        "Intel's own rule",
        "a GPU, and labelled not to",
        "a board's BMC",
    ],
)
def test_the_daemon_runs_where_gpus_are_and_where_nobody_knows(
    pod: Any, labels: dict[str, str], runs: bool
) -> None:
    rules = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert any(matches(term, labels) for term in rules["nodeSelectorTerms"]) is runs


def test_a_namespace_of_its_own_has_the_level_that_host_paths_need() -> None:
    namespace = load("components/namespace/namespace.yaml")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    overlay = load("components/namespace/kustomization.yaml")
    assert overlay["namespace"] == namespace["metadata"]["name"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl to build with")
def test_kustomize_puts_everything_into_the_namespace_of_its_own(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    path = tmp_path / "deploy" / "kustomization.yaml"
    # One vendor, or the account that events brings: not with all of the others.
    text = re.sub(r"(?m)^# +- components/(only-.*|account)\n", "", path.read_text())
    path.write_text(re.sub(r"(?m)^# (  - components/)", r"\1", text))
    command = ["kubectl", "kustomize", str(path.parent)]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    objects = list(yaml.safe_load_all(built.stdout))
    here = {o["kind"]: o["metadata"].get("namespace") for o in objects}
    policy = "ValidatingAdmissionPolicy"
    everywhere = {"Namespace", "ClusterRole", "ClusterRoleBinding", "DeviceClass"}
    everywhere |= {"NodeFeatureRule", policy, f"{policy}Binding"}
    own = {"ConfigMap", "DaemonSet", "ServiceAccount", "NetworkPolicy"}
    assert here.keys() == everywhere | own
    assert {here[kind] for kind in here.keys() - everywhere} == {"gpu-deviceplugin"}
    bindings = [o for o in objects if o["kind"] == "ClusterRoleBinding"]
    assert {one["namespace"] for b in bindings for one in b["subjects"]} == {"gpu-deviceplugin"}
    (daemonset,) = [o for o in objects if o["kind"] == "DaemonSet"]
    assert daemonset["spec"]["template"]["spec"]["serviceAccountName"] == "deviceplugin"
    (settings,) = [o for o in objects if o["kind"] == "ConfigMap"]
    files = {"config.yaml", "dra.yaml", "kubernetes.yaml", "kubernetes-facts.yaml", "labels.yaml"}
    files |= {"partitions.yaml", "runs.yaml"}
    files |= {"metrics.yaml", "metrics-review.yaml", "per-node.yaml"}
    assert settings["data"].keys() == files


def test_the_pod_asks_for_resources(container: Any) -> None:
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.slow
def test_the_configmap_is_a_valid_configuration(tmp_path: Path) -> None:
    for name, text in load("config.yaml")["data"].items():
        (tmp_path / name).write_text(text)
    checked = run_command("check", "--config", str(tmp_path))
    assert (checked.returncode, checked.stderr) == (0, "configuration is valid\n")


@pytest.mark.slow
def test_commented_examples_in_the_configmap_are_valid_too(tmp_path: Path) -> None:
    (text,) = load("config.yaml")["data"].values()
    lines = [re.sub(r"^(\s*)# (instances:|  - )", r"\1\2", line) for line in text.splitlines()]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    checked = run_command("check", "--config", str(path))
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr.endswith("configuration is valid\n")
    assert "mig-1g.5gb" in checked.stdout


def test_the_image_has_the_version_of_the_package(container: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert container["image"] == f"{project['name']}:{project['version']}"


def test_the_kustomization_names_files_and_objects_that_exist(daemonset: Any) -> None:
    path = DEPLOY / "kustomization.yaml"
    text = path.read_text() + re.sub(r"(?m)^# (?=( *- path: |patches:))", "", path.read_text())
    names = re.findall(r"- (?:path: )?(\S+\.yaml)", text)
    assert {"config.yaml", "daemonset.yaml", "patches/nvidia.yaml"} <= set(names)
    assert all((DEPLOY / name).exists() for name in names)
    assert {name for name in names if name.startswith("patches/")} == {
        f"patches/{name}" for name in PATCHES
    }
    for name in names:
        if name.startswith("patches/"):
            patch = load(name)
            assert patch["metadata"] == {
                key: daemonset["metadata"][key] for key in ("name", "namespace")
            }


def test_only_the_mig_patch_adds_a_capability() -> None:
    """The NVIDIA container toolkit refuses MIG_MONITOR_DEVICES to a container without it."""
    texts = {path.name: path.read_text() for path in FILES}
    assert [name for name, text in texts.items() if "SYS_ADMIN]" in text] == ["nvidia-mig.yaml"]
    monitors = [n for n, text in texts.items() if "name: NVIDIA_MIG_MONITOR_DEVICES" in text]
    assert monitors == ["nvidia-mig.yaml"]


def patched(name: str) -> tuple[Any, Any]:
    """What a patch says of the pod and of its container."""
    pod = load(f"patches/{name}")["spec"]["template"]["spec"]
    (container,) = pod.get("containers", [{"name": "deviceplugin"}])
    assert container["name"] == "deviceplugin"
    return pod, container


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.source)
def test_an_agents_patch_mounts_the_directory_of_its_socket_and_nothing_else(
    agent: Agent,
) -> None:
    vendor = agent.source.partition(".")[0]
    folder, name = str(Path(agent.socket).parent), f"agent-{vendor}"
    pod, container = patched(f"{name}.yaml")
    assert pod.keys() == {"containers", "volumes"}
    assert container.keys() == {"name", "volumeMounts"}
    # Directory would keep the pod from nodes without the agent.
    volume = {"name": name, "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}
    assert pod["volumes"] == [volume]
    assert container["volumeMounts"] == [
        {"name": name, "mountPath": HOST_ROOT + folder, "readOnly": True}
    ]


def test_the_patch_for_mps_mounts_its_root_where_clients_are_told_that_it_is() -> None:
    pod, container = patched("nvidia-mps.yaml")
    root = MpsSettings().root
    (volume,) = pod["volumes"]
    assert volume["hostPath"] == {"path": root, "type": "DirectoryOrCreate"}
    assert container["volumeMounts"] == [{"name": "mps", "mountPath": root}]
    assert container["env"] == [{"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"}]
    assert "securityContext" not in container


def test_the_patch_for_links_mounts_where_the_daemon_writes_them() -> None:
    pod, container = patched("intel-links.yaml")
    folder = str(Path(FOLDER).parent)
    assert [volume["hostPath"]["path"] for volume in pod["volumes"]] == [folder]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [HOST_ROOT + folder]


def test_the_patch_for_crio_mounts_the_directory_that_is_read() -> None:
    pod, container = patched("crio.yaml")
    folder = str(Path(CRIO_FILE).parent)
    assert pod.keys() == {"containers", "volumes"}
    assert pod["volumes"] == [
        {"name": "etc-crio", "hostPath": {"path": folder, "type": "Directory"}}
    ]
    assert container["volumeMounts"] == [
        {"name": "etc-crio", "mountPath": HOST_ROOT + folder, "readOnly": True}
    ]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("nvidia-jetson.yaml", (RELEASE, str(Path(MODEL).parent), str(Path(CSV_FOLDER).parent))),
        ("nvidia-gds.yaml", (GDS.mounts[0],)),
    ],
    ids=["jetson", "gds"],
)
def test_a_patch_for_a_place_mounts_what_is_read_there(name: str, read: tuple[str, ...]) -> None:
    pod, container = patched(name)
    assert tuple(volume["hostPath"]["path"] for volume in pod["volumes"]) == read
    assert [(m["mountPath"], m["readOnly"]) for m in container["volumeMounts"]] == [
        (HOST_ROOT + path, True) for path in read
    ]


def test_all_patches_together_are_mounts_that_do_not_meet(pod: Any, container: Any) -> None:
    volumes, mounts = list(pod["volumes"]), list(container["volumeMounts"])
    for name in PATCHES:
        changed, inside = patched(name)
        volumes += changed.get("volumes", [])
        mounts += inside.get("volumeMounts", [])
    names, paths = [v["name"] for v in volumes], [m["mountPath"] for m in mounts]
    assert len(set(names)) == len(names)
    assert len(set(paths)) == len(paths)
    assert {m["name"] for m in mounts} == set(names)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl to build with")
@pytest.mark.parametrize("left_out", ["nvidia.yaml", "nvidia-mig.yaml"])
def test_kustomize_builds_the_daemonset_with_all_patches(tmp_path: Path, left_out: str) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    path = tmp_path / "deploy" / "kustomization.yaml"
    text = re.sub(r"(?m)^# (?=( *- path: |patches:))", "", path.read_text())
    path.write_text(re.sub(rf"(?m)^ *- path: patches/{left_out}$", "", text))
    command = ["kubectl", "kustomize", str(path.parent)]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    objects = {o["kind"]: o for o in yaml.safe_load_all(built.stdout)}
    spec = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounted = {m["mountPath"] for m in container["volumeMounts"]}
    assert {"/etc/deviceplugin", "/run/nvidia/mps", "/host/run/xpumd"} <= mounted
    assert {e["name"]: e.get("value") for e in container["env"]}[
        "NVIDIA_DRIVER_CAPABILITIES"
    ] == "compute,utility"
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_build_context_has_what_the_image_is_built_from() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", Path("Dockerfile").read_text())
    for name in " ".join(copied).split():
        assert f"!{name.split('/')[0]}" in ignored
        assert (ROOT / name).exists()


def test_all_bytecode_of_the_image_is_what_its_python_looks_for() -> None:
    text = Path("Dockerfile").read_text()
    (level,) = set(re.findall(r"PYTHONOPTIMIZE=(\d)", text))
    assert re.findall(r"-m compileall -q -o (\d)", text) == [level]
