"""The CDI document, key by key, and whose kind it is."""

import json

import pytest

from deviceplugin.cdi.spec import document, file_name, precedes, usable
from deviceplugin.model import CdiSpec, ContainerEdits, DeviceNode, Hook, Mount

EDITS = ContainerEdits(
    env={"B": "2", "A": "1"},
    device_nodes=(DeviceNode(path="/dev/x", host_path="/host/dev/x"),),
    mounts=(
        Mount(path="/lib/a", host_path="/host/lib/a"),
        Mount(path="/run/b", host_path="/host/run/b", read_only=False),
    ),
    hooks=(Hook(name="createContainer", path="/bin/hook", args=("hook", "--x")),),
)


def test_a_document_has_all_that_a_runtime_needs() -> None:
    spec = CdiSpec(
        kind="example.com/gpu",
        devices={"b": ContainerEdits(env={"N": "b"}), "a": EDITS},
        common=ContainerEdits(env={"ALL": "1"}),
    )
    assert json.loads(document(spec)) == {
        "cdiVersion": "0.5.0",
        "kind": "example.com/gpu",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [
            {
                "name": "a",
                "containerEdits": {
                    "env": ["A=1", "B=2"],
                    "deviceNodes": [
                        {"path": "/dev/x", "hostPath": "/host/dev/x", "permissions": "rw"}
                    ],
                    "mounts": [
                        {
                            "hostPath": "/host/lib/a",
                            "containerPath": "/lib/a",
                            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
                        },
                        {
                            "hostPath": "/host/run/b",
                            "containerPath": "/run/b",
                            "options": ["rw", "nosuid", "nodev", "rbind", "rprivate"],
                        },
                    ],
                    "hooks": [
                        {
                            "hookName": "createContainer",
                            "path": "/bin/hook",
                            "args": ["hook", "--x"],
                        }
                    ],
                },
            },
            {"name": "b", "containerEdits": {"env": ["N=b"]}},
        ],
    }


def test_a_document_without_common_edits_has_none() -> None:
    spec = CdiSpec(kind="example.com/gpu", devices={"a": EDITS})
    text = document(spec)
    assert "containerEdits" not in json.loads(text)
    assert text.endswith(b"}\n")
    assert document(CdiSpec(kind=spec.kind, devices={"a": EDITS})) == text


def test_a_device_without_edits_is_left_out_since_it_would_cost_the_file() -> None:
    spec = CdiSpec(kind="example.com/gpu", devices={"a": EDITS, "b": ContainerEdits()})
    assert list(usable(spec).devices) == ["a"]


def test_a_kind_is_a_file_of_its_own() -> None:
    assert file_name("example.com/gpu") == "example.com-gpu.json"


@pytest.mark.parametrize(
    ("vendor", "other", "first"),
    [
        ("amd", "intel", True),
        ("intel", "amd", False),
        ("amd", "acme", True),
        ("acme", "amd", False),
        ("acme", "other", False),
        ("amd", "amd", False),
    ],
)
def test_a_vendor_that_the_order_lacks_comes_last(vendor: str, other: str, first: bool) -> None:
    assert precedes(vendor, other, ("amd", "intel")) is first
