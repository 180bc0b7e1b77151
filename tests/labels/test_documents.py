"""docs/labels.md and deploy/ say what the section has."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deviceplugin.labels.section import LabelsSection
from deviceplugin.labels.targets import ApiTarget, FileTarget
from deviceplugin.labels.values import key_problem
from tests.docs.test_docs import keys

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/labels.md").read_text()
COMPONENTS = ROOT / "deploy/components"
KEYS = dict(keys("labels", msgspec.inspect.type_info(LabelsSection)))


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((COMPONENTS / path).read_text()))


def test_every_key_is_described_with_its_default() -> None:
    shown = dict(re.findall(r"(?m)^\| `(labels\.\S+)` \| `(.*?)` \|", TEXT))
    assert shown == {key: value for key, value in KEYS.items() if "[]" not in key}
    assert all(f"`{key}`" in TEXT for key in KEYS)


@pytest.mark.parametrize(("name", "apply"), [("labels", "file"), ("labels-api", "api")])
def test_the_configuration_of_a_component_is_one_that_the_daemon_takes(
    name: str, apply: str
) -> None:
    (config,) = documents(f"{name}/config.yaml")
    section = msgspec.convert(
        yaml.safe_load(config["data"]["labels.yaml"])["labels"], LabelsSection
    )
    assert section.apply == apply
    given = LabelsSection(apply=section.apply)
    assert section == given


def test_the_directory_is_mounted_where_the_daemon_writes() -> None:
    (patch,) = documents("labels/daemonset.yaml")
    pod = patch["spec"]["template"]["spec"]
    (mount,), (volume,) = pod["containers"][0]["volumeMounts"], pod["volumes"]
    assert mount["mountPath"] == volume["hostPath"]["path"] == LabelsSection().directory
    assert "readOnly" not in mount


def test_the_rights_are_the_least() -> None:
    role, binding = documents("labels-api/rbac.yaml")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_rule_asks_for_labels_that_the_feature_file_has() -> None:
    (rule,) = documents("labels-taint/rule.yaml")
    assert (rule["apiVersion"], rule["kind"]) == ("nfd.k8s-sigs.io/v1alpha1", "NodeFeatureRule")
    for one in rule["spec"]["rules"]:
        (match,) = one["matchFeatures"]
        assert match["feature"] == "local.label"
        (label,) = match["matchExpressions"]
        vendor = one["name"].rpartition(".")[2]
        assert label == f"deviceplugin/gpu.vendor.{vendor}"
        (taint,) = one["taints"]
        assert key_problem(taint["key"]) is None
        assert taint["effect"] == "NoSchedule"


def test_targets_are_of_the_same_place_only_with_the_same_settings() -> None:
    assert FileTarget("/a", 1.0) == FileTarget("/a", 1.0)
    assert ApiTarget("a") != ApiTarget("b")
