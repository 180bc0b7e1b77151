"""The shipped contract check finds each way in which a third party's vendor can be wrong."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any

import pytest
from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.host import Host
from deviceplugin.model import (
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceID,
    DeviceNode,
    Discovery,
    Fault,
    Link,
    LinkKind,
    Mount,
    ResourceName,
)
from deviceplugin.testing.contract import contract_problems
from deviceplugin.vendor import Finding, Grant, HealthReport, Reading
from tests.rig import WAIT_S, environment
from tests.third_party.plugin import WELL_BEHAVED, install, spoilt

NODE = DeviceNode(path="/dev/x", host_path="/dev/x")
GPU = Device(
    id=DeviceID("gpu-0"),
    vendor="acme",
    resource=ResourceName("acme.com/gpu"),
    nodes=("/dev/x",),
    numa_node=0,
)
FAULT = Fault(device=GPU.id, source="acme.x", code="c", reason="r", action="a")


class Scripted(Struct):
    """A vendor that gives what it is told to; a list of several gives one after the other."""

    discoveries: list[Any]  # what it should not be, too
    edits: list[ContainerEdits] = field(
        default_factory=lambda: [ContainerEdits(device_nodes=(NODE,))]
    )
    name: str = "acme"

    def discover(self) -> Any:
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
        ({"parent": "gpu-9"}, "gpu-0: its parent 'gpu-9' is not among the devices"),
        ({"links": (Link(peer=GPU.id, kind=LinkKind.PCIE),)}, "gpu-0: a link leads to the device"),
        (
            {"links": (Link(peer=DeviceID("gpu-9"), kind=LinkKind.PCIE),)},
            "gpu-0: a link leads to 'gpu-9', which is not",
        ),
        ({"index": "0"}, "gpu-0: index is '0'"),
        ({"id": "two words"}, "two words: the id cannot be used: it is not letters, digits"),
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
        ({"device": "gpu-9"}, "fault c: 'gpu-9' is not a device of this vendor"),
        (
            {"code": "Bad-Code"},
            (
                "fault Bad-Code: the code 'Bad-Code' is not snake_case"
                " (small letters, digits, single underscores)"
            ),
        ),
        ({"source": "other.x"}, "fault c: the source 'other.x' does not begin with 'acme.'"),
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
        (ContainerEdits(mounts=(Mount(path="/a", host_path="/b"),)), "mount /b does not exist"),
        (
            ContainerEdits(mounts=(Mount(path="a", host_path="/dev/x"),)),
            "mount 'a' is not an absolute path in the container",
        ),
        (
            ContainerEdits(cdi_devices=("acme.com/gpu",)),
            "CDI device 'acme.com/gpu': it has no '=' between kind and name",
        ),
        (ContainerEdits(env={"A=B": "1"}), "'A=B' is not the name of a variable"),
        (None, "container_edits() gives NoneType, not ContainerEdits"),
    ],
    ids=["nothing", "node", "permissions", "twice", "mount", "path", "cdi", "variable", "none"],
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
    leaking = ContainerEdits(mounts=(Mount(path=inside, host_path="/dev/x"),))
    problems = contract_problems(Scripted([found(replace(GPU, product=inside))], [leaking]), host)
    assert problems == [
        "gpu-0: the root under which the host is read leaks into the device",
        "gpu-0: the root under which the host is read leaks into the answer",
    ]


class Complete(Scripted):
    """A vendor with every optional method; each does what it is told to."""

    said: object = True
    found: object = Finding()
    specs: object = (CdiSpec(kind="acme.com/gpu", devices={"gpu-0": ContainerEdits()}),)
    reports: Sequence[Fault] = ()
    left: Sequence[Fault] = ()
    limits: Any = field(default_factory=ContainerEdits)
    measured: Any = field(default_factory=dict)
    listened: Any = ()

    def unchanged(self) -> object:
        return self.said

    def probe_health(self, device: Device) -> object:
        return self.found

    def cdi_specs(self, devices: Sequence[Device]) -> object:
        return self.specs

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        report.faults("acme.x", self.reports)
        stop.wait()
        report.faults("acme.x", self.left)

    def share_edits(self, grants: Sequence[Grant]) -> Any:
        return self.limits

    def agents(self) -> Any:
        return self.listened

    def readings(self, devices: Sequence[Device]) -> Any:
        return self.measured

    def close(self) -> None:
        pass


def test_a_vendor_with_every_optional_method_can_keep_the_contract(host: Host) -> None:
    assert contract_problems(Complete([found(GPU)], reports=[FAULT]), host) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"said": False}, "unchanged() is false right after discover() though nothing has changed"),
        ({"said": None}, "unchanged() gives None, not a bool"),
        ({"found": ()}, "gpu-0: probe_health() gives tuple, not a Finding"),
        (
            {"found": Finding(events=(replace(FAULT, device=DeviceID("gpu-1")),))},
            "gpu-0: probe_health(): fault c: 'gpu-1' is not a device of this vendor",
        ),
        (
            {"specs": (CdiSpec(kind="no kind", devices={}),)},
            "the CDI kind 'no kind' cannot be used: it has no vendor before a slash",
        ),
        ({"specs": None}, "cdi_specs() gave None, not CdiSpecs"),
        (
            {"specs": (CdiSpec(kind="a.b/c", devices={}),) * 2},
            "CDI kind a.b/c has two files",
        ),
        (
            {"reports": [replace(FAULT, source="nvidia.xid")]},
            "watch_health(): fault c: the source 'nvidia.xid' does not begin with 'acme.'",
        ),
        (
            {"left": [FAULT]},
            "watch_health(): the faults of acme.x were not emptied when stop was set",
        ),
        ({"listened": [5]}, "agents(): agents() gave int, not an Agent"),
        ({"limits": None}, "share_edits() gives NoneType, not ContainerEdits"),
        ({"measured": None}, "readings() gives NoneType, not a mapping"),
        (
            {"measured": {"gpu-1": Reading()}},
            "readings(): 'gpu-1' is not a whole device of this vendor",
        ),
        ({"measured": {"gpu-0": 5}}, "readings(): int is not a Reading"),
        ({"reports": None}, "watch_health(): raises TypeError: 'NoneType' object is not iterable"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_optional_method_that_breaks_the_contract_is_named(
    host: Host, changes: dict[str, Any], problem: str
) -> None:
    assert contract_problems(Complete([found(GPU)], **changes), host) == [problem]


def test_a_monitor_that_does_not_end_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Scripted):
        def watch_health(self, devices: object, report: HealthReport, stop: Event) -> None:
            report.rediscover()
            never.wait(WAIT_S)

    never = Event()
    monkeypatch.setattr("deviceplugin.testing.contract.health.END_S", 0.01)
    problems = contract_problems(Endless([found(GPU)]), host)
    never.set()
    assert problems == ["watch_health() has not ended 0.01 s after stop was set"]


def test_a_misspelt_method_is_all_that_is_told(host: Host) -> None:
    class Misspelt(Scripted):
        def probe_helth(self, device: Device) -> Finding:
            return Finding()

    (problem,) = contract_problems(Misspelt([found(GPU)]), host)
    assert "did you mean probe_health()?" in problem


def test_what_is_not_a_discovery_is_all_that_is_told(host: Host) -> None:
    assert contract_problems(Scripted([None]), host) == [
        "discover() gives NoneType, not a Discovery"
    ]


TREE = "/dev/example/a c 1:3\n"


def command(tmp_path: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The shipped command on a third party's package and one tree."""
    path = install(tmp_path / "plugins", source)
    (tmp_path / "node.tree").write_text(TREE)
    return subprocess.run(
        [sys.executable, "-m", "deviceplugin.testing.contract", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": path},
    )


@pytest.mark.slow
@pytest.mark.parametrize("package", ["example", "example_vendor"])
def test_the_command_says_that_a_package_keeps_the_contract(tmp_path: Path, package: str) -> None:
    ended = command(tmp_path, WELL_BEHAVED, package, "--tree", "node.tree")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "example keeps to contract 1 (nodes looked at: 1)\n"


@pytest.mark.slow
def test_the_command_speaks_json(tmp_path: Path) -> None:
    ended = command(tmp_path, WELL_BEHAVED, "example", "--tree", "node.tree", "--format", "json")
    assert json.loads(ended.stdout) == {
        "vendor": "example",
        "contract": 1,
        "kept": True,
        "problems": [],
        "trees": [{"tree": "node.tree", "problems": []}],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param(
            WELL_BEHAVED.replace('{"example": E', '{"health": E'),
            "section 'health' has a name that the daemon reserves",
            id="reserved",
        ),
        pytest.param(
            WELL_BEHAVED.replace('greeting: str = "hello"', "greeting: str"),
            "section 'example' has no default for every key: Object missing required field"
            " `greeting`",
            id="no default",
        ),
        pytest.param(
            f"{WELL_BEHAVED}\nCONTRACT = 2\n", "it needs contract 2, this is 1", id="later"
        ),
        pytest.param(
            WELL_BEHAVED.replace("return Vendor(host, ", "host.path('').index('~'); return (0, "),
            "create() raises ValueError: substring not found; it must not touch the hardware",
            id="create",
        ),
        pytest.param(
            WELL_BEHAVED.replace("raise UnavailableError", "raise RuntimeError"),
            "on an empty node discover() raises RuntimeError, not UnavailableError",
            id="empty node",
        ),
        pytest.param(
            WELL_BEHAVED.replace('"/dev/example")', '"/dev/other")'),
            "node.tree: discover() finds none of its hardware: no thing in /dev/example",
            id="no hardware",
        ),
        pytest.param(
            spoilt(
                "def container_edits(self, devices):\n"
                "    names = self.host.read_names('/dev/example')\n"
                "    return ContainerEdits(env={'N': str(names)})"
            ),
            "node.tree: container_edits() reads the host, which may hang",
            id="impure",
        ),
        pytest.param(
            spoilt(
                "def container_edits(self, devices):\n"
                "    return ContainerEdits(cdi_devices=('a.b/c=d',))"
            ),
            "node.tree: CDI device a.b/c=d stands in no file of cdi_specs()",
            id="unlisted",
        ),
        pytest.param(
            spoilt("def container_edits(self, devices):\n    return 1 / 0"),
            "node.tree: raises ZeroDivisionError: division by zero (__init__.py:54)",
            id="raises",
        ),
        pytest.param(
            f"{WELL_BEHAVED}\nSHARE_VARIABLES = ('LIMIT',)\n",
            "node.tree: SHARE_VARIABLES names variables, and there is no share_edits()",
            id="variables",
        ),
        pytest.param(
            f"{WELL_BEHAVED}\nSHARING = 5\n", "its SHARING is not a mapping", id="sharing"
        ),
        pytest.param(
            spoilt("def close(self):\n    raise KeyError('x')"),
            "node.tree: close() raises KeyError: 'x'",
            id="close",
        ),
    ],
)
def test_the_command_names_what_a_package_breaks(tmp_path: Path, source: str, problem: str) -> None:
    ended = command(tmp_path, source, "example_vendor", "--tree", "node.tree")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[:-1] == [problem]
    assert ended.stdout.splitlines()[-1].startswith("example breaks contract 1")


@pytest.mark.slow
def test_the_command_names_a_package_that_is_not_there(tmp_path: Path) -> None:
    ended = command(tmp_path, WELL_BEHAVED, "no_such_package")
    assert ended.returncode == 2
    assert "No module named 'no_such_package'" in ended.stderr
