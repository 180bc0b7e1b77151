"""The examples of deploy/examples/dra ask for what drivers publish, in words that CEL knows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.cli.dra import matched

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy/examples/dra").glob("*.yaml"))
CLASSES = sorted((ROOT / "deploy/components/dra").glob("class-*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
WANTED = {
    "admin-access",
    "extended-resource",
    "first-available",
    "linked-gpus",
    "memory-slice",
    "mig-profile",
    "partition",
    "whole-gpu",
}
INSTANCE = {
    "type": {"string": "mig"},
    "profile": {"string": "1g.5gb"},
    "parentUUID": {"string": "GPU-0"},
}
PARTITION = {"type": {"string": "amdgpu-partition"}, "partitionProfile": {"string": "cpx_nps4"}}


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def requests(path: Path) -> Iterator[Any]:
    """What is asked for exactly, in all alternatives."""
    for one in documents(path):
        if one["kind"] == "ResourceClaimTemplate":
            for request in one["spec"]["spec"]["devices"]["requests"]:
                yield from request.get("firstAvailable") or [request["exactly"]]


def selectors(path: Path) -> Iterator[str]:
    for request in requests(path):
        yield from (one["cel"]["expression"] for one in request.get("selectors", ()))
    for one in documents(path):
        if one["kind"] == "DeviceClass":
            yield from (each["cel"]["expression"] for each in one["spec"]["selectors"])


def node() -> Any:
    """The devices of all golden slices, and a part of each kind."""
    drivers: dict[str, list[Any]] = {}
    for path in GOLDEN.glob("*.json"):
        for spec in json.loads(path.read_text())["specs"]:
            drivers.setdefault(spec["driver"], []).extend(spec.get("devices", ()))
    larger = INSTANCE | {"profile": {"string": "3g.20gb"}}
    parts = [_part("mig", INSTANCE), _part("larger", larger), _part("slice", {}, several=True)]
    drivers["gpu.nvidia.com"] += parts
    drivers["gpu.amd.com"].append(_part("part", PARTITION))
    return {
        "node": "n",
        "drivers": [
            {"driver": name, "devices": [_device(one) for one in devices]}
            for name, devices in drivers.items()
        ],
    }


def _part(name: str, attributes: Any, *, several: bool = False) -> Any:
    kind = {"type": {"string": "gpu"}} | attributes
    capacity = {"memory": {"value": "40Gi"}}
    return {
        "name": name,
        "attributes": kind,
        "capacity": capacity,
        "allowMultipleAllocations": several,
    }


def _device(published: Any) -> Any:
    return {
        "name": published["name"],
        "id": published["name"],
        "attributes": published["attributes"],
        "capacity": {k: v["value"] for k, v in published.get("capacity", {}).items()},
        "several": published.get("allowMultipleAllocations", False),
    }


def test_there_is_one_for_each_way_to_ask() -> None:
    assert {path.stem for path in EXAMPLES} == WANTED


@pytest.mark.parametrize("path", [*EXAMPLES, *CLASSES], ids=lambda path: path.stem)
def test_each_selector_takes_a_device_that_is_published(path: Path) -> None:
    for expression in selectors(path):
        devices = matched(node(), expression)["devices"]
        ours = [one for one in devices if one["driver"] in expression or "[" not in expression]
        assert any(one["matches"] for one in ours), (expression, ours)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_names_classes_and_templates_that_there_are(path: Path) -> None:
    (pod,) = [one for one in documents(path) if one["kind"] == "Pod"]
    known = {one["metadata"]["name"] for each in CLASSES for one in documents(each)}
    assert {request["deviceClassName"] for request in requests(path)} <= known
    templates = {
        (one["metadata"]["name"], one["metadata"].get("namespace"))
        for one in documents(path)
        if one["kind"] == "ResourceClaimTemplate"
    }
    for claim in pod["spec"].get("resourceClaims", ()):
        wanted = (claim["resourceClaimTemplateName"], pod["metadata"].get("namespace"))
        assert wanted in templates
    extended = [
        one["spec"].get("extendedResourceName")
        for one in documents(path)
        if one["kind"] == "DeviceClass"
    ]
    (container,) = pod["spec"]["containers"]
    assert set(container["resources"].get("limits", ())) == set(filter(None, extended))


def test_admin_access_is_asked_for_where_the_api_server_allows_it() -> None:
    for path in EXAMPLES:
        namespaces = {
            one["metadata"]["name"]
            for one in documents(path)
            if one["kind"] == "Namespace"
            and one["metadata"]["labels"]["resource.kubernetes.io/admin-access"] == "true"
        }
        for one in documents(path):
            if "adminAccess" in json.dumps(one):
                assert one["metadata"]["namespace"] in namespaces
