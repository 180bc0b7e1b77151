"""deploy/mesh holds together with the Service and the pages that are served.

The forms below are checks of our own, for the fields that our files use, written after the public
documentation of Istio and Linkerd; they are not the definitions that a cluster with a mesh has.
"""

import re
from typing import Any

import jsonschema
import pytest

from deviceplugin.metrics.http import pages_of
from deviceplugin.metrics.registry import Registry
from tests.deploy.test_manifests import DEPLOY, load

CORE = pages_of(Registry(), lambda: True, lambda: "")
PAGES = ("/", "/events", "/status", "/status/schema", *CORE)
NAME = "deviceplugin-http.kube-system.svc.cluster.local"


def record(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
DURATION = {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h)$"}
COUNT = {"type": "integer", "minimum": 0}
HTTP_STATUS = {"type": "integer", "minimum": 100, "maximum": 599}
# Of a per cent; `percent`, a whole number, was the form of earlier versions.
PERCENTAGE = record("value", value={"type": "number", "minimum": 0, "maximum": 100})
VIRTUAL_SERVICE = record(
    "hosts http",
    hosts=several(TEXT),
    http=several(
        record(
            "route",
            name=TEXT,
            match=several(
                record("uri", uri={"type": "object", "minProperties": 1, "maxProperties": 1})
            ),
            route=several(
                record(
                    "destination",
                    destination=record("host port", host=TEXT, port=record("number", number=COUNT)),
                )
            ),
            timeout=DURATION,
            retries=record("attempts", attempts=COUNT, perTryTimeout=DURATION, retryOn=TEXT),
            fault=record(
                "",
                delay=record("percentage fixedDelay", percentage=PERCENTAGE, fixedDelay=DURATION),
            ),
        )
    ),
)
SERVICE_PROFILE = record(
    "routes",
    routes=several(
        record(
            "name condition",
            name=TEXT,
            condition=record("", method={"enum": ["GET", "POST"]}, pathRegex=TEXT),
            responseClasses=several(
                record(
                    "condition",
                    condition=record("status", status=record("", min=HTTP_STATUS, max=HTTP_STATUS)),
                    isFailure={"type": "boolean"},
                )
            ),
            isRetryable={"type": "boolean"},
            timeout=DURATION,
        )
    ),
    retryBudget=record(
        "retryRatio minRetriesPerSecond ttl",
        retryRatio={"type": "number", "minimum": 0, "maximum": 1},
        minRetriesPerSecond=COUNT,
        ttl=DURATION,
    ),
)
FORMS = {
    "virtualservice": ("networking.istio.io/v1", "VirtualService", VIRTUAL_SERVICE),
    "serviceprofile": ("linkerd.io/v1alpha2", "ServiceProfile", SERVICE_PROFILE),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_manifest_has_the_current_version_and_form(name: str) -> None:
    manifest = load(f"mesh/{name}.yaml")
    version, kind, form = FORMS[name]
    assert (manifest["apiVersion"], manifest["kind"]) == (version, kind)
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate(manifest["spec"], form)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("virtualservice", {"fault": {"delay": {"percent": 1, "fixedDelay": "5s"}}}),
        ("virtualservice", {"timeout": 30}),
        ("serviceprofile", {"retries": {"budget": {"retryRatio": 0.2}}}),
        ("serviceprofile", {"condition": {"status": {"min": 500}}}),
    ],
    ids=["an old percentage", "seconds without a unit", "a budget in a route", "a status as route"],
)
def test_the_checks_find_what_a_mesh_would_refuse(name: str, mistake: dict[str, Any]) -> None:
    spec = load(f"mesh/{name}.yaml")["spec"]
    (spec.get("http") or spec["routes"])[0].update(mistake)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, FORMS[name][2])


def test_the_service_leads_to_the_daemons_port() -> None:
    service, daemonset = load("mesh/service.yaml"), load("daemonset.yaml")
    pod = daemonset["spec"]["template"]
    (port,) = pod["spec"]["containers"][0]["ports"]
    (served,) = service["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (port["containerPort"], port["name"])
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["metadata"]["namespace"] == daemonset["metadata"]["namespace"]


def test_both_meshes_mean_that_service() -> None:
    virtual, profile = load("mesh/virtualservice.yaml"), load("mesh/serviceprofile.yaml")
    service = load("mesh/service.yaml")["metadata"]
    assert f"{service['name']}.{service['namespace']}.svc.cluster.local" == NAME
    assert virtual["spec"]["hosts"] == [NAME]
    places = [r["destination"] for http in virtual["spec"]["http"] for r in http["route"]]
    assert {(place["host"], place["port"]["number"]) for place in places} == {(NAME, 9440)}
    assert profile["metadata"]["name"] == NAME


def test_every_route_is_a_page_that_is_served() -> None:
    for route in load("mesh/serviceprofile.yaml")["spec"]["routes"]:
        pattern = re.compile(route["condition"]["pathRegex"])
        assert any(pattern.fullmatch(page) for page in PAGES), route["name"]
    uris = [http["match"][0]["uri"] for http in load("mesh/virtualservice.yaml")["spec"]["http"]]
    assert uris == [{"exact": "/events"}, {"prefix": "/"}]


def test_nothing_else_lies_there() -> None:
    names = {path.name for path in (DEPLOY / "mesh").iterdir()}
    assert names == {"service.yaml", "virtualservice.yaml", "serviceprofile.yaml"}
