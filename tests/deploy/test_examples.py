"""Each example is what an API server takes, and gets from daemon and kubelet what it is for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.cli.verdicts import refusals, verdicts
from deviceplugin.names import name_problem
from tests.deploy.examples import EXAMPLES, GIVEN, container_of, pod_spec, requests
from tests.rig import WAIT_S, Rig

EACH = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
# As docs/documents.md has them: what they set themselves beats the allocation.
OVERRIDING = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_VGPU_PROFILE"}


def test_every_example_has_its_line_in_the_table() -> None:
    assert {path.stem for path in EXAMPLES} == GIVEN.keys()


@EACH
def test_an_extended_resource_is_a_whole_number_with_equal_request_and_limit(path: Path) -> None:
    """kubernetes/pkg/apis/core/validation: "must be an integer", "must be equal to … limit"."""
    resources = container_of(path)["resources"]
    asked = dict(requests(container_of(path)))
    assert asked
    for name, amount in asked.items():
        assert name_problem(name) is None
        assert isinstance(amount, int)
        assert amount > 0
    assert resources.get("requests", asked) == resources["limits"] == asked


@EACH
def test_an_example_does_not_override_its_allocation(path: Path) -> None:
    names = {one["name"] for one in container_of(path).get("env", ())}
    assert not names & OVERRIDING
    spec = pod_spec(yaml.safe_load(path.read_text()))
    assert [v for v in spec.get("volumes", ()) if "hostPath" in v] == []


@EACH
def test_check_refuses_nothing_of_an_example(path: Path) -> None:
    shown = verdicts({}, str(path), None)
    assert refusals(shown) == []
    keys = [key for one in shown["documents"] for key in one["keys"]]
    applied = [key for key in keys if key["verdict"] == "applied"]
    assert len(applied) >= len(dict(requests(container_of(path))))


def test_the_secure_pod_passes_the_strictest_pod_security_level() -> None:
    """restricted, as the standard of Kubernetes has it."""
    (path,) = [path for path in EXAMPLES if path.stem == "nvidia-secure"]
    spec: Any = pod_spec(yaml.safe_load(path.read_text()))
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes"}


@pytest.mark.slow
@EACH
async def test_a_container_is_given_what_its_example_is_for(rig: Rig, path: Path) -> None:
    given = GIVEN[path.stem]
    given.node(rig)
    asked = {name: int(str(amount)) for name, amount in requests(container_of(path))}
    await rig.stub.start()
    rig.start("--config", str(rig.config(given.config)))
    await rig.stub.wait_for(
        lambda: all(rig.stub.allocatable().get(name, 0) >= n for name, n in asked.items()),
        timeout_s=WAIT_S,
        what=f"{asked} can be allocated",
    )
    await rig.stub.admit("pod", {"main": asked})
    found = rig.stub.merged("pod", "main")
    assert found.conflicts == []
    for name, value in given.env.items():
        assert found.envs[name].endswith(value or ""), found.envs
        assert found.envs[name]
    nodes = sorted(found.devices)
    assert [node for node in nodes if not node.startswith(given.nodes or ("-",))] == []
    assert [begin for begin in given.nodes if not any(n.startswith(begin) for n in nodes)] == []


def test_a_job_with_preflight_asks_for_the_same_gpus_twice() -> None:
    """The kubelet gives what init containers had on to the containers after them."""
    (path,) = [path for path in EXAMPLES if path.stem == "nvidia-preflight"]
    spec: Any = pod_spec(yaml.safe_load(path.read_text()))
    (first,), (main,) = spec["initContainers"], spec["containers"]
    assert first["resources"] == main["resources"]
    assert first["args"][0] == "preflight"
