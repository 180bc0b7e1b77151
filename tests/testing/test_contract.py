"""The shipped contract check finds each way in which a third party's vendor can be wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from deviceplugin.host import Host
from deviceplugin.model import (
    ContainerEdits,
    Device,
    DeviceID,
    DeviceNode,
    Discovery,
    Fault,
    Mount,
    ResourceName,
)
from deviceplugin.testing.contract import contract_problems

NODE = DeviceNode(path="/dev/x", host_path="/dev/x")
GPU = Device(
    id=DeviceID("gpu-0"),
    vendor="acme",
    resource=ResourceName("acme.com/gpu"),
    nodes=("/dev/x",),
    numa_node=0,
)
FAULT = Fault(device=GPU.id, source="acme.x", code="c", reason="r", action="a")


@dataclass
class Scripted:
    """A vendor that gives what it is told to; a list of several gives one after the other."""

    discoveries: list[Discovery]
    edits: list[ContainerEdits] = field(
        default_factory=lambda: [ContainerEdits(device_nodes=(NODE,))]
    )
    name: str = "acme"

    def discover(self) -> Discovery:
        return self.discoveries.pop(0) if len(self.discoveries) > 1 else self.discoveries[0]

    def container_edits(self, _: Sequence[Device]) -> ContainerEdits:
        return self.edits.pop(0) if len(self.edits) > 1 else self.edits[0]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/x").touch()
    return Host(tmp_path)


def found(*devices: Device, faults: tuple[Fault, ...] = ()) -> Discovery:
    return Discovery(devices=devices, faults=faults)


def test_a_vendor_that_keeps_the_contract_has_no_problems(host: Host) -> None:
    other = replace(GPU, id=DeviceID("gpu-1"))
    assert contract_problems(Scripted([found(GPU, other, faults=(FAULT,))]), host) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"vendor": "other"}, "gpu-0: vendor is 'other', not 'acme'"),
        ({"parent": "gpu-0"}, "gpu-0: is its own parent"),
        ({"id": "two words"}, "two words: the id cannot be used: it has characters other than"),
        ({"resource": "gpu"}, "gpu-0: resource 'gpu': it has no domain"),
        ({"numa_node": -1}, "gpu-0: an unknown NUMA node is None, never negative"),
        ({"memory_bytes": 0}, "gpu-0: an unknown value is None, never 0"),
        ({"product": "N/A"}, "gpu-0: an unknown value is None, never 0"),
        ({"nodes": ("/dev/y",)}, "gpu-0: node /dev/y does not exist"),
    ],
    ids=str,
)
def test_a_device_that_is_none_is_told(host: Host, changes: dict[str, Any], problem: str) -> None:
    problems = contract_problems(Scripted([found(replace(GPU, **changes))]), host)
    assert [text for text in problems if text.startswith(problem)] == problems != []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"action": ""}, "fault c: a fault names its reason and what to do"),
        ({"source": "other.x"}, "fault c: source 'other.x' does not begin with the vendor"),
    ],
    ids=str,
)
def test_a_fault_that_helps_nobody_is_told(
    host: Host, changes: dict[str, Any], problem: str
) -> None:
    vendor = Scripted([found(GPU, faults=(replace(FAULT, **changes),))])
    assert contract_problems(vendor, host) == [problem]


def test_ids_and_looks_that_differ_are_told(host: Host) -> None:
    assert contract_problems(Scripted([found(GPU, GPU)]), host) == ["two devices have the same id"]
    assert contract_problems(Scripted([found(GPU), found()]), host) == [
        "discover() differs from call to call"
    ]


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        (ContainerEdits(), "container_edits() gives the container nothing"),
        (
            ContainerEdits(device_nodes=(replace(NODE, host_path="/dev/y"),)),
            "device node /dev/y does not exist",
        ),
        (
            ContainerEdits(device_nodes=(replace(NODE, permissions="x"),)),
            "permissions 'x' are not made of r, w and m",
        ),
        (ContainerEdits(device_nodes=(NODE, NODE)), "a path is given twice"),
    ],
    ids=["nothing", "node", "permissions", "twice"],
)
def test_an_answer_that_no_container_can_use_is_told(
    host: Host, edits: ContainerEdits, problem: str
) -> None:
    assert contract_problems(Scripted([found(GPU)], [edits]), host) == [f"gpu-0: {problem}"]


def test_an_answer_that_differs_from_call_to_call_is_told(host: Host) -> None:
    one = ContainerEdits(env=MappingProxyType({"N": "1"}))
    problems = contract_problems(
        Scripted([found(GPU)], [one, ContainerEdits(env={"N": "2"})]), host
    )
    assert problems == ["gpu-0: container_edits() differs from call to call"]


def test_the_root_that_is_read_below_is_never_told(host: Host) -> None:
    inside = f"{host.root}/dev/x"
    leaking = ContainerEdits(mounts=(Mount(path="/m", host_path=inside),))
    problems = contract_problems(Scripted([found(replace(GPU, product=inside))], [leaking]), host)
    assert problems == [
        "gpu-0: the root under which the host is read leaks into the device",
        "gpu-0: the root under which the host is read leaks into the answer",
    ]
