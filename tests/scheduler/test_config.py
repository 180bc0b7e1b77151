"""The command's configuration: documents as they are written, and what kube-scheduler takes."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from deviceplugin.cli.scheduler import scheduler_commands
from deviceplugin.cli.scheduler_config import asking_of_file, configuration_text
from deviceplugin.errors import ConfigError
from deviceplugin.learning.settings import Learning
from deviceplugin.scheduler.about import Wants
from deviceplugin.scheduler.parts import Weights

SCHEDULER = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: gpu-scheduler
  plugins:
    filter:
      enabled: [{name: GPUResourceFit}, {name: GPUAffinity}]
    score:
      enabled:
      - {name: GPUResourceFit, weight: 50}
      - {name: GPUAffinity, weight: 30}
      - {name: GPULoadBalancing, weight: 20}
      disabled: [{name: ImageLocality}]
  pluginConfig:
  - name: NodeResourcesFit
"""
SECTIONS = """
workloads:
  training: {gpu_memory: 32GiB, compute_capability: "8.0+", tensor_cores: true}
  inference: {gpu_memory: 8GiB, precision: FP8}
network: {type: 5g, bandwidth: 10Gbps}
realtime: {enabled: true, latency_target: 1ms}
gpu_nodes:
- {name: gpu-node-1, gpu_type: nvidia-tesla-v100, scheduling_policy: fair_share}
- {name: gpu-node-2, scheduling_policy: priority}
"""


def wrapped(text: str) -> str:
    """The document in a ConfigMap."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "gpu-scheduler-config"},
            "data": {"config.yaml": text},
        }
    )


def file(tmp_path: Path, *texts: str) -> str:
    path = tmp_path / "scheduler.yaml"
    path.write_text("\n---\n".join(texts))
    return str(path)


def test_sections_and_weights_are_read_from_config_maps(tmp_path: Path) -> None:
    asked = asking_of_file(file(tmp_path, wrapped(SCHEDULER), wrapped(SECTIONS)))
    asking = asked.asking
    assert asking.weights == Weights(fit=50, affinity=30, balance=20)
    assert asking.classes["training"] == Wants(memory_mib=32 << 10, capability=80)
    assert asking.classes["inference"] == Wants(memory_mib=8 << 10, capability=89)
    assert asking.policies == {"gpu-node-1": "fair_share", "gpu-node-2": "priority"}
    assert (asking.realtime, asking.near_nic, asked.fair) == (True, True, False)


def test_a_plugin_that_is_left_out_does_not_count(tmp_path: Path) -> None:
    text = SCHEDULER.replace("      - {name: GPUAffinity, weight: 30}\n", "")
    assert asking_of_file(file(tmp_path, text)).asking.weights == Weights(affinity=0)


def test_without_any_of_it_the_defaults_hold(tmp_path: Path) -> None:
    assert asking_of_file(None) == asking_of_file(file(tmp_path, "health: {hold_s: 3}"))


def test_the_policy_fair_share_is_for_namespaces_here(tmp_path: Path) -> None:
    assert asking_of_file(file(tmp_path, "scheduling: {policy: fair_share}")).fair


@pytest.mark.parametrize("weight", ["-1", "many", "10001", "1.5"])
def test_a_weight_that_is_none_is_told_with_its_plugin(tmp_path: Path, weight: str) -> None:
    text = SCHEDULER.replace("weight: 30", f"weight: {weight}")
    with pytest.raises(ConfigError, match=r"GPUAffinity\.weight.*a number from 0 to 10000"):
        asking_of_file(file(tmp_path, text))


def test_kube_scheduler_gets_what_it_takes(tmp_path: Path) -> None:
    found = yaml.safe_load(
        configuration_text(file(tmp_path, wrapped(SCHEDULER)), "https://x", "/k")
    )
    (profile,) = found["profiles"]
    assert profile == {
        "schedulerName": "gpu-scheduler",
        "plugins": {"score": {"disabled": [{"name": "ImageLocality"}]}},
        "pluginConfig": [{"name": "NodeResourcesFit"}],
    }
    assert found["percentageOfNodesToScore"] == 100
    (ours,) = found["extenders"]
    deployed = Path(__file__).parents[2] / "deploy/scheduler/scheduler-config.yaml"
    (other,) = yaml.safe_load(deployed.read_text())["extenders"]
    assert ours == {**other, "urlPrefix": "https://x"}
    assert found["clientConnection"] == {"kubeconfig": "/k"}


def test_a_file_without_such_a_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="one document of the kind KubeSchedulerConfiguration, not 0"
    ):
        configuration_text(file(tmp_path, SECTIONS), "https://x", "/k")


def test_the_command_prints_it(tmp_path: Path) -> None:
    ran = CliRunner().invoke(scheduler_commands, ["render", "--config", file(tmp_path, SCHEDULER)])
    assert ran.exit_code == 0
    assert yaml.safe_load(ran.output)["kind"] == "KubeSchedulerConfiguration"


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        (["--fair-share", "ml"], "NAMESPACE=WEIGHT"),
        (["--fair-share", "ml=0"], "NAMESPACE=WEIGHT"),
        (["--fair-share", "=3"], "NAMESPACE=WEIGHT"),
        (["--starving-after", "soon"], "--starving-after"),
        (["--config", "/nowhere"], "/nowhere"),
    ],
)
def test_a_flag_that_is_wrong_is_told(flags: list[str], meant: str) -> None:
    ran = CliRunner().invoke(scheduler_commands, flags)
    assert ran.exit_code != 0
    assert meant in str(ran.exception)


# The reference's own documents, as they stand there.
BLOCKS = Path(__file__).parents[1] / "reference/blocks"
SCHEDULING = ("1.2.1", "5.1.1", "5.1.2", "6.2.1", "6.3.1", "7.1.1")


def test_the_documents_of_the_reference_are_taken_as_they_stand(tmp_path: Path) -> None:
    for name in SCHEDULING:
        (tmp_path / f"{name}.yaml").write_text((BLOCKS / f"{name}.yaml").read_text())
    asked = asking_of_file(str(tmp_path))
    asking = asked.asking
    assert asking.weights == Weights(fit=50, affinity=30, balance=20)
    assert asking.policies == {"gpu-node-1": "fair_share", "gpu-node-2": "priority"}
    assert asking.classes == {
        "training": Wants(memory_mib=32 << 10, capability=80),
        "inference": Wants(memory_mib=8 << 10, capability=70),
        "edge_inference": Wants(memory_mib=4 << 10, capability=60),
    }
    assert (asking.realtime, asking.near_nic) == (True, True)
    assert asked.learning == Learning(
        interval_s=3600.0,
        retention_s=30 * 86_400.0,
        timeout_s=5.0,
        batch=100,
        name="gpu-scheduler-v2",
        version="v2.1",
    )
    found = yaml.safe_load(configuration_text(str(tmp_path), "http://x", "/k"))
    assert found["profiles"] == [{"schedulerName": "gpu-scheduler"}]


@pytest.mark.parametrize("name", SCHEDULING)
def test_each_document_of_the_reference_is_taken_alone(name: str) -> None:
    asking_of_file(str(BLOCKS / f"{name}.yaml"))
