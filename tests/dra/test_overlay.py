"""deploy/components/dra gives the rights that a driver needs, and binds a daemon to its node."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deviceplugin.dra.names import DRIVERS
from deviceplugin.dra.section import DraSection
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.dra import ClaimName
from tests.dra.simulated import simulated

COMPONENT = Path(__file__).parents[2] / "deploy/components/dra"
VERBS = {"GET": "list", "POST": "create", "PUT": "update", "DELETE": "delete"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((COMPONENT / name).read_text()))


def rights() -> dict[str, list[str]]:
    (role,) = [one for one in documents("rbac.yaml") if one["kind"] == "ClusterRole"]
    return {rule["resources"][0]: rule["verbs"] for rule in role["rules"]}


def test_the_rights_are_the_least() -> None:
    assert rights() == {
        "resourceslices": ["list", "watch", "create", "update", "delete"],
        "resourceclaims": ["get"],
        "nodes": ["get"],
    }
    (binding,) = [one for one in documents("rbac.yaml") if one["kind"] == "ClusterRoleBinding"]
    (account,) = documents("../account/account.yaml")
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]


async def test_no_other_request_is_made(short_dir: Path) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ClaimName(uid="u-1", name="one"))
    for method, path in {tuple(one.split()) for one in api.requests}:
        kinds = [kind for kind in rights() if f"/{kind}" in path]
        if path == "/version":  # system:public-info-viewer, for everybody
            continue
        (kind,) = kinds
        verb = VERBS[method] if kind == "resourceslices" else "get"
        assert verb in rights()[kind], (method, path)


def test_the_policy_is_about_the_account_that_the_pod_has_and_every_slice() -> None:
    policy, binding = documents("policy.yaml")
    (account,) = documents("../account/account.yaml")
    (condition,) = policy["spec"]["matchConditions"]
    name = f"{account['metadata']['namespace']}:{account['metadata']['name']}"
    assert condition["expression"].endswith(f"== 'system:serviceaccount:{name}'")
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule["operations"] == ["CREATE", "UPDATE", "DELETE"]
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_the_configuration_is_one_that_the_daemon_takes() -> None:
    (config_map,) = documents("config.yaml")
    section = yaml.safe_load(config_map["data"]["dra.yaml"])["dra"]
    assert msgspec.convert(section, DraSection) == DraSection(enabled=True)


def test_each_class_is_of_a_driver_that_is_published() -> None:
    for one in (one for path in COMPONENT.glob("class-*") for one in documents(path.name)):
        (selector,) = one["spec"]["selectors"]
        assert any(f'"{driver}"' in selector["cel"]["expression"] for driver in DRIVERS.values())


@pytest.mark.parametrize("driver", ["UPPER.example", "a" * 64, "-x", ""])
def test_a_driver_that_the_api_server_refuses_is_no_configuration(driver: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="lower-case DNS subdomain"):
        msgspec.convert({"driver": driver}, DraSection)
