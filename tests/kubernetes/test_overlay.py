"""deploy/components/events gives the rights that the writes need, and no others."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deviceplugin.kubernetes.section import KubernetesSection

COMPONENT = Path(__file__).parents[2] / "deploy/components/events"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((COMPONENT / name).read_text()))


@pytest.mark.parametrize(
    ("name", "rights"),
    [
        (
            "rbac.yaml",
            {"events": ["create", "get", "patch"], "pods": ["get"], "nodes/status": ["patch"]},
        ),
        ("taint-rbac.yaml", {"nodes": ["get", "patch"]}),
    ],
)
def test_the_rights_are_the_least(name: str, rights: dict[str, list[str]]) -> None:
    (role,) = [one for one in documents(name) if one["kind"] == "ClusterRole"]
    assert {rule["resources"][0]: rule["verbs"] for rule in role["rules"]} == rights
    assert {len(rule["resources"]) for rule in role["rules"]} == {1}
    (binding,) = [one for one in documents(name) if one["kind"] == "ClusterRoleBinding"]
    (account,) = documents("../account/account.yaml")
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_configuration_is_one_that_the_daemon_takes() -> None:
    (config_map,) = documents("config.yaml")
    section = yaml.safe_load(config_map["data"]["kubernetes.yaml"])["kubernetes"]
    assert msgspec.convert(section, KubernetesSection) == KubernetesSection(
        events=True, condition=True
    )


def test_every_file_of_the_component_is_named() -> None:
    (kustomization,) = documents("kustomization.yaml")
    named = {"kustomization.yaml", "taint-rbac.yaml", *kustomization["resources"]}
    named |= {patch["path"] for patch in kustomization["patches"]}
    assert {path.name for path in COMPONENT.iterdir()} == named
