"""The status document: each value stands at its own place, what is unknown is null."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from deviceplugin.page.made import schema
from deviceplugin.page.model import Status
from deviceplugin.page.status import status_of
from tests.page.known import AT, GIB, known


def document(*, pods: bool = True) -> Any:  # JSON
    return json.loads(msgspec.json.encode(status_of(known(), pods=pods)))


def device(found: Any, name: str) -> Any:
    whole = [*found["devices"], *(p for d in found["devices"] for p in d["partitions"])]
    return next(one for one in whole if one["id"] == name)


def test_gpus_have_their_partitions_inside() -> None:
    found = document()
    assert [one["id"] for one in found["devices"]] == ["amd-7", "GPU-0", "GPU-1"]
    assert [one["id"] for one in device(found, "GPU-1")["partitions"]] == ["MIG-1", "MIG-2"]


def test_each_reading_is_where_it_belongs() -> None:
    assert device(document(), "GPU-0")["measured"] == {
        "up": True,
        "age_s": 3.0,
        "utilization_ratio": 0.37,
        "memory_used_bytes": 13 * GIB,
        "temperature_celsius": 63.0,
        "power_watts": 251.0,
        "power_limit_watts": 400.0,
    }


def test_what_is_not_measured_is_null_and_a_lost_gpu_is_not_up() -> None:
    found = document()
    assert device(found, "GPU-1")["measured"] is None
    part = device(found, "MIG-1")["measured"]
    assert (part["utilization_ratio"], part["power_watts"]) == (None, None)
    lost = device(found, "amd-7")
    assert (lost["measured"]["up"], lost["measured"]["age_s"]) == (False, 120.0)
    assert lost["condition"] == "unhealthy"


def test_holders_faults_resources_and_links_are_told() -> None:
    found = document()
    assert device(found, "MIG-1")["held_by"] == [
        {
            "namespace": "team",
            "pod": "trainer",
            "container": "main",
            "resource": "nvidia.com/mig-1g.5gb",
        }
    ]
    assert (found["faults"][0]["class"], found["faults"][0]["since"]) == ("hardware", AT - 120)
    assert found["resources"][1] == {
        "name": "nvidia.com/mig-1g.5gb",
        "capacity": 1,
        "allocatable": 1,
        "held": 1,
    }
    assert found["links"] == [
        {"one": "GPU-0", "other": "GPU-1", "relation": "NVLINK ×12", "direct": True}
    ]


def test_without_leave_no_pod_is_named_anywhere() -> None:
    found = document(pods=False)
    part = device(found, "MIG-1")
    assert (part["held"], part["held_by"]) == (1, None)
    assert not any(word in json.dumps(found) for word in ("trainer", "team", '"main"'))


@pytest.mark.parametrize("pods", [True, False])
def test_the_document_keeps_its_published_schema(*, pods: bool) -> None:
    jsonschema.validate(document(pods=pods), json.loads(schema()))


def test_the_schema_refuses_another_document() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"node": "n"}, json.loads(schema()))
    assert msgspec.convert(document(), Status).node == "node-1"
