"""What of users' documents acts, is held against a node, or is rendered."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.cli.access import rbac_text
from deviceplugin.cli.verdicts import only, refusals, verdicts, verdicts_text
from deviceplugin.config.config import Config
from deviceplugin.config.effective import effective
from deviceplugin.config.files import MAX_BYTES, MAX_MANIFEST_BYTES, read_pieces
from deviceplugin.config.load import load
from deviceplugin.config.notices import notice_lines
from deviceplugin.daemon.unsupported import UnsupportedPart
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.documents.drivers import driver_need
from deviceplugin.errors import ConfigError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, ResourceName
from tests.reference.index import INDEX

BLOCKS = Path(__file__).parent / "blocks"
A100: dict[str, Any] = {
    "id": "GPU-1",
    "profile": None,
    "faults": [],
    "product": "NVIDIA A100-SXM4-40GB",
    "parent": None,
    "memory_bytes": 40 << 30,
    "resource": "nvidia.com/gpu",
    "attributes": {"compute_capability": "8.0"},
}
NEAR = "mlx5_0 (nearest GPU 0000:07:00.0: same PCIe switch)"
REPORT: dict[str, Any] = {
    "devices": [A100],
    "vendors": [{"name": "nvidia", "driver_version": "550.54.15"}],
    "resources": {"nvidia.com/gpu": [{"id": "GPU-1", "health": "Healthy", "device": "GPU-1"}]},
    "host": {
        "rdma": {"mlx5_0": "nearest GPU 0000:07:00.0: same PCIe switch"},
        "peer_memory": ["nvidia_peermem"],
        "limits": {"memory": True, "cpu": False},
        "account": None,
    },
    "sharing": {"nvidia.com/gpu": {"isolation": "process"}},
}


def config_of(block: str, node: str = "gpu-node-1", *, allowed: bool = False) -> Config:
    flags = {"node_name": node, "config": str(BLOCKS / f"{block}.yaml")}
    return load(flags | ({"allow_unsupported": "true"} if allowed else {}))[0]


def given(block: str, **flags: Any) -> dict[str, Any]:
    return effective(config_of(block, **flags))


def written(tmp_path: Path, text: str, name: str = "a.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_isolation_of_a_security_document_is_that_of_the_node() -> None:
    assert given("8.1.1", allowed=True)["isolation"] == "hardware"


def test_an_edge_node_has_the_policy_and_the_interface_of_its_entry() -> None:
    scheduling = given("6.2.1", node="edge-gpu-1")["scheduling"]
    assert (scheduling["policy"], scheduling["proximity_to"]) == ("proximity", "5g")
    assert given("6.2.1", node="other")["scheduling"]["policy"] is None


def test_real_time_work_has_its_policy() -> None:
    assert given("6.3.1")["scheduling"]["policy"] == "real_time"


def test_memory_techniques_are_switches_of_every_runtime() -> None:
    shown = given("9.1.1")
    for section in ("cuda", "rocm", "oneapi"):
        assert shown[section]["runtime"]["memory_pool"] is True
        assert shown[section]["runtime"]["unified_memory"] is True
    assert shown["cuda"]["runtime"]["memory_compression"] is True


def test_the_daemons_own_keys_win_over_documents(tmp_path: Path) -> None:
    text = "realtime: {enabled: true}\nscheduling: {policy: spread}"
    config, _ = load({"config": written(tmp_path, text)})
    assert effective(config)["scheduling"]["policy"] == "spread"


def test_the_audit_of_a_document_is_that_of_the_node() -> None:
    assert given("8.2.1", allowed=True)["audit"] == {"enabled": True, "retention": "7y"}
    assert given("11.1.1", allowed=True)["audit"] == {"enabled": True, "retention": "1y"}
    assert given("8.1.1", allowed=True)["audit"]["enabled"] is False


def test_an_audit_that_is_off_records_nothing(tmp_path: Path) -> None:
    text = "data_protection: {audit: {enabled: false, retention: 7y}}"
    shown = effective(load({"config": written(tmp_path, text)})[0])
    assert shown["audit"] == {"enabled": False, "retention": "1y"}


def test_a_section_that_is_off_asks_for_nothing(tmp_path: Path) -> None:
    text = "security: {isolation: {enabled: false, level: hardware}}\nrealtime: {enabled: false}"
    shown = effective(load({"config": written(tmp_path, text)})[0])
    assert shown["isolation"] is None
    assert shown["scheduling"]["policy"] is None


@pytest.mark.parametrize(
    ("block", "vendor", "resource", "variables"),
    [
        (
            "2.3.1",
            "nvidia",
            "nvidia.com/gpu",
            {"CUDA_MEMORY_POOL": "true", "CUDA_UNIFIED_MEMORY": "true"},
        ),
        (
            "3.2.1",
            "amd",
            "amd.com/gpu",
            {"ROCM_MEMORY_POOL": "true", "ROCM_UNIFIED_MEMORY": "true"},
        ),
        (
            "4.2.1",
            "intel",
            "intel.com/gpu",
            {"ONEAPI_MEMORY_POOL": "true", "ONEAPI_UNIFIED_MEMORY": "true"},
        ),
    ],
)
def test_switches_of_a_runtime_reach_containers(
    block: str, vendor: str, resource: str, variables: dict[str, str], tmp_path: Path
) -> None:
    config = config_of(block)
    (module,) = load_vendors((vendor,))
    device = Device(id=DeviceID("x"), vendor=vendor, resource=ResourceName(resource))
    edits = module.create(Host(tmp_path), config.sections).container_edits([device])
    assert variables.items() <= edits.env.items()


def test_what_cannot_be_done_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError) as refused:
        config_of("8.2.1")
    lines = [str(error) for error in refused.value.errors]
    assert [line.partition(":")[0] for line in lines] == [
        "data_protection.encryption.at_rest",
        "data_protection.encryption.in_transit",
        "data_protection.encryption.in_use",
    ]
    assert "a device plugin encrypts no disk" in lines[0]


def test_what_is_allowed_is_told_and_counted() -> None:
    config = config_of("8.2.1", allowed=True)
    part = UnsupportedPart(config)
    (family,) = part.collect()
    assert [line for line in notice_lines(config) if line.startswith("unsupported: ")]
    assert len(part.notice.splitlines()) == 3
    assert family.samples == [("", (), 3.0)]


def told(block: str, key: str) -> tuple[bool | None, str]:
    path = str(BLOCKS / f"{block}.yaml")
    shown = only(verdicts({"node_name": "gpu-node-2"}, path, REPORT), key)
    (one,) = (one for document in shown["documents"] for one in document["keys"])
    return one["met"], one["measured"]


@pytest.mark.parametrize(
    ("block", "key", "met", "measured"),
    [
        ("1.2.1", "workloads.training.gpu_memory", True, "nvidia.com/gpu"),
        ("1.2.1", "workloads.training.compute_capability", True, "nvidia.com/gpu"),
        ("1.2.1", "workloads.inference.precision", True, "nvidia.com/gpu"),
        ("1.3.1", "performance.memory_bandwidth", True, "NVIDIA A100-SXM4-40GB: 1555 GB/s"),
        ("1.3.1", "performance.compute_throughput", True, "NVIDIA A100-SXM4-40GB: 312 TFLOPS"),
        ("11.1.1", "gpu.isolation", False, "nvidia.com/gpu: no"),
        ("11.1.1", "gpu.monitoring", True, "127.0.0.1:9440"),
        ("9.3.1", "network_optimization.settings.rdma_enabled", True, NEAR),
        ("9.3.1", "network_optimization.settings.gpu_direct", True, "nvidia_peermem is loaded"),
        ("9.2.1", "compute_optimization.settings.tensor_cores", True, "nvidia.com/gpu"),
        ("2.1.1", "mig.instances[0].compute_units", None, "no device of it is there"),
        ("5.1.2", "gpu_nodes[1].gpu_count", False, "1 GPUs"),
        ("5.1.2", "gpu_nodes[1].gpu_type", True, "NVIDIA A100-SXM4-40GB"),
        ("5.1.2", "gpu_nodes[1].memory_per_gpu", True, "nvidia.com/gpu"),
        ("11.1.1", "deployment.resource_limits", False, "memory: yes, cpu: no"),
        ("11.1.1", "deployment.health_checks", True, "127.0.0.1:9440"),
        (
            "11.1.1",
            "security.access_control",
            True,
            "no account is mounted: no right at the API server",
        ),
        ("11.1.1", "security.encryption", None, "confidential computing: unknown"),
        ("9.1.1", "memory_optimization.settings.pool_size", True, "nvidia.com/gpu"),
    ],
)
def test_an_expectation_is_held_against_the_node(
    block: str, key: str, met: bool | None, measured: str
) -> None:
    assert told(block, key) == (met, measured)


def test_the_driver_of_the_node_is_held_against_the_version() -> None:
    met, text = told("2.3.1", "cuda.version")
    assert met is True
    assert "minor version compatibility" in text
    assert driver_need("cuda", "12.5", "555.42.02").met is True
    assert driver_need("cuda", "12.5", "470.57.02").met is False
    assert driver_need("cuda", "12.5", None).met is None
    assert driver_need("cuda", "99.9", "555.42.02").met is None


@pytest.mark.parametrize(
    ("section", "version", "driver", "level"),
    [
        ("cuda", "12.5", "560.28.03", "full"),
        ("cuda", "12.5", "525.60.13", "compatible"),
        ("cuda", "12.5", "470.57.02", "old"),
        ("cuda", "12.5", "unreadable", None),
        ("rocm", "6.4", "6.12.12", "full"),
        ("rocm", "6.4", "6.7.0", "compatible"),  # AMD's matrix: 6.1.x runs 6.4.x
        ("rocm", "6.4", "6.3.6", "old"),
        ("rocm", "6.2", "6.3.6", "compatible"),
        ("rocm", "6.0", "6.3.6", "full"),
        (
            "rocm",
            "6.0.2",
            "6.2.4",
            None,
        ),  # by the matrix drivers of 5.6 and 5.7 do, by name unknown
        ("rocm", "5.7", "6.3.6", None),
    ],
)
def test_a_driver_is_new_enough_compatible_or_too_old(
    section: str, version: str, driver: str, level: str | None
) -> None:
    assert driver_need(section, version, driver).level == level


def test_roles_become_cluster_roles() -> None:
    admin, user = yaml.safe_load_all(rbac_text(config_of("8.1.1", allowed=True)))
    assert (admin["kind"], admin["metadata"]["name"]) == ("ClusterRole", "gpu-admin")
    assert "deletecollection" in admin["rules"][0]["verbs"]
    assert user["rules"][0] == {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get", "list", "watch", "create"],
    }


def test_without_roles_there_is_nothing_to_render() -> None:
    with pytest.raises(ConfigError, match=r"security\.access_control\.roles"):
        rbac_text(config_of("2.1.1"))


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("9.1.2", "extended resources are whole numbers"),
        ("8.1.2", "it overrides the GPUs that the container is given"),
        ("5.2.2", "there is no such program"),
    ],
)
def test_a_manifest_is_refused_for_what_the_cluster_would_stumble_over(
    block: str, part: str
) -> None:
    shown = verdicts({}, str(BLOCKS / f"{block}.yaml"))
    assert any(part in one["text"] for one in refusals(shown))
    assert part in verdicts_text(shown)


def test_a_request_that_differs_from_its_limit_is_refused(tmp_path: Path) -> None:
    resources = {"limits": {"amd.com/gpu": 2}, "requests": {"amd.com/gpu": 1}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "spec": {"containers": [{"name": "a", "resources": resources}]},
    }
    shown = verdicts({}, written(tmp_path, yaml.safe_dump(pod)))
    assert all("must be equal" in one["text"] for one in refusals(shown))
    assert refusals(shown)


def test_a_manifest_without_gpus_is_not_ours(tmp_path: Path) -> None:
    shown = verdicts({}, written(tmp_path, "apiVersion: v1\nkind: Service\nspec: {}"))
    (one,) = shown["documents"][0]["keys"]
    assert one["text"].startswith("not ours")


def test_items_of_a_list_are_documents_of_their_own(tmp_path: Path) -> None:
    block = yaml.safe_load((BLOCKS / "6.3.1.yaml").read_text())
    listed = {"apiVersion": "v1", "kind": "List", "items": [block]}
    config, _ = load({"config": written(tmp_path, yaml.safe_dump(listed))})
    assert effective(config)["scheduling"]["policy"] == "real_time"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind: ConfigMap\napiVersion: v1\ndata: [a]", "a ConfigMap with keys and texts"),
        ("kind: ConfigMap\napiVersion: v1\ndata: {a.yaml: {b: 1}}", "text below the ConfigMap's"),
        ("kind: ConfigMap\napiVersion: v1\ndata: {a.toml: 'x = ['}", "TOML"),
        ("kind: ConfigMap\napiVersion: v1\ndata: {a.yaml: 'x: ['}", "a.yaml: a.yaml"),
        ("kind: ConfigMap\napiVersion: v1\ndta: {}", "did you mean 'data'?"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_its_place(
    text: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"config": written(tmp_path, text)})
    assert reason in str(refused.value)


def test_manifests_have_a_bound_of_their_own(tmp_path: Path) -> None:
    pod = "apiVersion: v1\nkind: Pod\nspec: {}\n"
    assert read_pieces(Path(written(tmp_path, pod + "#" * (2 * MAX_BYTES))))
    for text in ("#" * (2 * MAX_BYTES), pod + "#" * MAX_MANIFEST_BYTES):
        with pytest.raises(ConfigError, match="bytes"):
            read_pieces(Path(written(tmp_path, text)))


def test_every_expectation_is_held_against_something() -> None:
    for block in INDEX:
        shown = verdicts({"node_name": "gpu-node-1"}, str(BLOCKS / f"{block}.yaml"), REPORT)
        for document in shown["documents"]:
            for one in document["keys"]:
                assert one.get("measured") != "nothing on the node tells it", (block, one["key"])
