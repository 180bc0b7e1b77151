"""One node with GPUs of three vendors, and third parties' vendors that behave and misbehave."""

import json
from collections.abc import Mapping

import pytest
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.testing.amd import V620_HOST, amd_tree
from deviceplugin.testing.intel import B60, set_vfs, write_intel_node
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.resources.conftest import polls
from tests.rig import GPU, MIG_1G, MIG_2G, MIG_3G, WAIT_S, DaemonProcess, Rig, run_command
from tests.third_party.plugin import WELL_BEHAVED, install, spoilt
from tests.vendors.amd.amd_nodes import mi300x

AMD, AMD_SLICE = "amd.com/gpu", "amd.com/mxgpu-4gb-vfio"
INTEL, INTEL_SLICE = "intel.com/xe-4gb", "intel.com/xe-4gb-vfio"
THING = "example.com/thing"
NVIDIA = {GPU: 6, MIG_1G: 9, MIG_2G: 1, MIG_3G: 1}
THREE = {**NVIDIA, AMD: 8, AMD_SLICE: 8, INTEL: 4, INTEL_SLICE: 2}
GPU_0 = "GPU-00000000-0000-0000-0000-000000000000"
CONFIG = """
amd: {resource_naming: single}
intel_xe:
  instances: [{name: xe-4gb, memory: 4GiB, compute_units: 64}]
mxgpu:
  instances: [{name: mxgpu-4gb, memory: 4GiB}]
"""


@pytest.fixture
def node(rig: Rig, nvml: NvmlDouble) -> Rig:
    """Eight A100 (two of them cut), an MI300X in CPX, eight V620 slices, a B60 with six."""
    gpu = replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)
    write_tree(rig.host_root, amd_tree([mi300x()], [V620_HOST]))
    write_intel_node(rig.host_root, gpu)
    set_vfs(rig.host_root, gpu, 6, 4227858432, ["xe"] * 4 + ["vfio-pci"] * 2)
    write_tree(rig.host_root, "/dev/example/a c 1:1\n/dev/example/b c 1:2")
    return rig


async def test_three_vendors_are_one_process_one_endpoint_one_configuration(node: Rig) -> None:
    await node.stub.start()
    daemon = node.start("--config", str(node.config(CONFIG)))
    await node.capacity(THREE)
    assert node.stub.allocatable() == THREE
    await node.stub.admit("pod", {"main": {GPU: 2, AMD: 2, INTEL: 1}})
    given = node.stub.merged("pod", "main")
    assert set(given.envs) == {
        "NVIDIA_VISIBLE_DEVICES",
        "INTEL_XE_MEMORY",
        "INTEL_XE_COMPUTE_UNITS",
    }
    assert "/dev/kfd" in given.devices
    assert given.conflicts == []
    status, metrics = await daemon.http("/metrics")
    assert status == 200
    for vendor in ("amd", "intel", "nvidia"):
        assert f'deviceplugin_vendor_up{{vendor="{vendor}"}} 1.0' in metrics
    for name, count in THREE.items():
        labels = f'health="Healthy",resource="{name}"'
        assert f"deviceplugin_devices{{{labels}}} {count}.0" in metrics
    assert node.stub.violations == []


async def test_a_vendor_that_fails_for_a_while_leaves_the_others_alone(
    node: Rig, nvml: NvmlDouble
) -> None:
    await node.stub.start()
    daemon = node.start()
    await node.capacity(THREE)
    nvml.hang("nvmlDeviceGetMemoryInfo", gpu=2)
    await node.allocatable(dict.fromkeys(NVIDIA, 0))
    others = {name: count for name, count in THREE.items() if name not in NVIDIA}
    assert others.items() <= node.stub.allocatable().items()
    await node.one_of_each(others)
    _, metrics = await daemon.http("/metrics")
    assert 'deviceplugin_vendor_up{vendor="nvidia"} 0.0' in metrics
    nvml.unhang()
    await node.allocatable(THREE)


async def test_a_vendor_needs_no_edit_outside_its_package(node: Rig) -> None:
    path = install(node.root / "plugins", WELL_BEHAVED)
    await node.stub.start()
    config = node.config("example: {greeting: good day}")
    node.start("--config", str(config), PYTHONPATH=path)
    await node.capacity({**THREE, THING: 2})
    given = (await node.one_of_each([THING]))[THING]
    assert given.envs == {"GREETING": "good day"}
    assert set(given.devices) < {"/dev/example/a", "/dev/example/b"}
    write_tree(node.host_root, "/dev/example/c c 1:3")
    await node.allocatable({THING: 3})


FORMS = """
rules:
  - match: {vendor: example}
    offers: [whole, {replicas: 2}]
metrics: {pods: true}
"""


async def test_a_device_is_given_whole_or_shared_whatever_its_id_ends_like(rig: Rig) -> None:
    write_tree(rig.host_root, "/dev/example/m1 c 1:1\n/dev/example/m2 c 1:2")
    sized = spoilt(
        "def thing(self, name, **changes):\n"
        "    return super().thing(name, memory_bytes=1 << 30, **changes)"
    )
    path = install(rig.root / "plugins", sized)
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(FORMS)), PYTHONPATH=path)
    await rig.allocatable({THING: 2, f"{THING}.shared": 4})
    await rig.stub.admit("whole", {"main": {THING: 1}})
    await rig.allocatable({f"{THING}.shared": 2})
    (held,) = (await daemon.wait_event("form_decided", resource=THING))["device"].split()
    with pytest.raises(Exception, match=f"in.use.as {THING}"):
        await rig.stub.allocate(f"{THING}.shared", [f"{held}::0"])
    await polls(rig, 2)
    _, metrics = await daemon.http("/metrics")
    assert f'in_use_as{{device="{held}",resource="{THING}"}} 1.0' in metrics
    assert f'container_devices{{container="main",device="{held}"' in metrics
    rig.stub.remove_pod("whole")
    await rig.allocatable({THING: 2, f"{THING}.shared": 4})


def test_a_third_partys_section_is_checked_like_ours(node: Rig) -> None:
    path = install(node.root / "plugins", WELL_BEHAVED)
    config = node.config("example: {greting: hi}")
    ended = run_command("check", "--config", str(config), PYTHONPATH=path)
    assert ended.returncode == 2
    assert "example.greting" in ended.stderr
    assert "did you mean 'greeting'?" in ended.stderr


class Bad(Struct, frozen=True, kw_only=True):
    """A vendor that misbehaves: what the log tells of it, and what is left of its things (None:
    it depends on who came first)."""

    source: str
    event: str
    told: str
    things: int | None = 0


HANG = "threading.Event().wait()"
TWO = 'return Discovery(devices=tuple(self.thing(n{}) for n in ("a", "b")))'


def returns(changes: str) -> str:
    """A discovery of two things with changed fields."""
    return spoilt(f"def discover(self):\n    {TWO.format(', ' + changes)}")


DISCOVERIES = {
    "raises": Bad(
        source=spoilt("def discover(self):\n    raise RuntimeError('boom')"),
        event="vendor_waits",
        told="RuntimeError: boom",
    ),
    "ends the program": Bad(
        source=spoilt("def discover(self):\n    raise SystemExit(7)"),
        event="vendor_waits",
        told="SystemExit: 7",
    ),
    "hangs": Bad(
        source=spoilt(f"def discover(self):\n    {HANG}"),
        event="vendor_waits",
        told="no answer within 10 s",
    ),
    "gives nothing": Bad(
        source=spoilt("def discover(self):\n    return None"),
        event="vendor_waits",
        told="NoneType, not a Discovery",
    ),
    "gives no devices but text": Bad(
        source=spoilt("def discover(self):\n    return Discovery(devices=('a', 5))"),
        event="vendor_conflict",
        told=" is not a Device",
    ),
    "speaks for another vendor": Bad(
        source=returns("vendor='nvidia'"), event="vendor_conflict", told="'nvidia'"
    ),
    "claims another vendor's id": Bad(
        source=spoilt(
            f"def discover(self):\n    return Discovery(devices=(self.thing('a', id='{GPU_0}'),))"
        ),
        event="vendor_conflict",
        told="that of a device of vendor nvidia",
    ),
    "claims another vendor's resource": Bad(
        source=returns("resource='nvidia.com/gpu'"),
        event="vendor_conflict",
        told="nvidia.com/gpu is that of vendor nvidia",
    ),
    "gives an id twice": Bad(
        source=returns("id='same'"), event="vendor_conflict", told="2 devices have this id"
    ),
    "gives ids that are too long": Bad(
        source=returns("id='x' * 64 + n"), event="vendor_conflict", told="more than 63 characters"
    ),
    "gives ids that nobody can print": Bad(
        source=returns("id=n + '\\n'"), event="vendor_conflict", told="the id cannot be used"
    ),
    "gives ids that are numbers": Bad(
        source=returns("id=ord(n)"), event="vendor_conflict", told="id is 97"
    ),
    "gives NUMA node -1": Bad(
        source=returns("numa_node=-1"),
        event="vendor_conflict",
        told="NUMA node -1 is taken as unknown",
        things=2,
    ),
    "gives invalid resource names": Bad(
        source=returns("resource='example.com/no spaces'"),
        event="vendor_conflict",
        told="cannot be offered",
    ),
    "faults another vendor's device": Bad(
        source=spoilt(
            "def discover(self):\n"
            f"    lie = Fault(device='{GPU_0}', source='example.x', code='lie', reason='so',"
            " action='no')\n"
            "    return Discovery(devices=(self.thing('a'),), faults=(lie,))"
        ),
        event="vendor_conflict",
        told="a fault (example.x) of a device of vendor nvidia",
        things=1,
    ),
    "watches badly": Bad(
        source=spoilt(
            "def watch_health(self, devices, report, stop):\n"
            "    report.faults('x', ['not a fault'])"
        ),
        event="thread_failed",
        told="str is not a Fault",
        things=2,
    ),
    "watches for ever": Bad(
        source=spoilt(f"def watch_health(self, devices, report, stop):\n    {HANG}"),
        event="resource_added",
        told="",
        things=2,
    ),
    "reports faults of another vendor's device": Bad(
        source=spoilt(
            "def watch_health(self, devices, report, stop):\n"
            f"    report.faults('x', [Fault(device='{GPU_0}', source='example.x', code='lie',"
            " reason='so', action='no')])\n"
            "    stop.wait()"
        ),
        event="resource_added",
        told="",
        things=2,
    ),
    "writes another vendor's CDI file": Bad(
        source=spoilt(
            "def cdi_specs(self, devices):\n"
            "    from deviceplugin.model import CdiSpec\n"
            "    kind = 'k8s.device-plugin.amd.com/gpu'\n"
            "    return (CdiSpec(kind=kind, devices={'x': ContainerEdits()}),)"
        ),
        event="vendor_conflict",
        told="is that of vendor amd",
        things=None,
    ),
}


@pytest.mark.parametrize("bad", DISCOVERIES.values(), ids=DISCOVERIES)
async def test_a_vendor_that_lies_costs_nothing_but_its_own_devices(node: Rig, bad: Bad) -> None:
    daemon = await with_plugin(node, bad.source)
    await told(daemon, bad)
    if bad.things:
        await node.allocatable({THING: bad.things})
    await others_are_served(node, daemon)
    if bad.things is not None:
        assert node.stub.allocatable().get(THING, 0) == bad.things


EDITS = {
    "raises": ("raise RuntimeError('boom')", "RuntimeError: boom"),
    "hangs": (HANG, "no answer within 5 s"),
    "gives nothing": ("return None", "AttributeError"),
    "gives numbers for text": ("return ContainerEdits(env={'A': 5})", "cannot be sent"),
    "gives a node that is not there": (
        "return ContainerEdits(device_nodes=(DeviceNode(path='/x', host_path='/x'),))",
        "/x does not exist",
    ),
}


@pytest.mark.parametrize(("body", "reason"), EDITS.values(), ids=EDITS)
async def test_answers_that_fail_are_refusals_of_that_vendor_alone(
    node: Rig, body: str, reason: str
) -> None:
    daemon = await with_plugin(node, spoilt(f"def container_edits(self, devices):\n    {body}"))
    await node.allocatable({THING: 2})
    with pytest.raises(Exception, match=reason):
        await node.stub.allocate(THING, ["thing-a"])
    refused = await daemon.wait_event("allocate_refused", resource=THING)
    assert reason in refused["reason"]
    await others_are_served(node, daemon)


UNUSABLE = {
    "cannot be imported": ("import no_such_module", "No module named 'no_such_module'"),
    "is no Python": ("def (", "SyntaxError"),
    "ends the program": ("raise SystemExit(3)", "SystemExit: 3"),
    "has no create": (WELL_BEHAVED.replace("def create", "def make"), "it has no create()"),
    "has another vendor's name": (
        WELL_BEHAVED.replace('NAME = "example"', 'NAME = "nvidia"'),
        "its NAME is 'nvidia'",
    ),
    "takes another vendor's section": (
        WELL_BEHAVED.replace('SECTIONS = {"example"', 'SECTIONS = {"amd"'),
        "its section 'amd' is that of vendor 'amd' (deviceplugin",
    ),
    "has a section that must be given": (
        WELL_BEHAVED.replace('greeting: str = "hello"', "greeting: str"),
        "missing required field `greeting`",
    ),
}
UNMADE = {
    "raises in create": (
        f"{WELL_BEHAVED}\n\ndef create(*_):\n    return 1 / 0",
        "division by zero",
    ),
    "hangs in create": (f"{WELL_BEHAVED}\n\ndef create(*_):\n    {HANG}", "no answer within 5 s"),
    "makes no vendor": (f"{WELL_BEHAVED}\n\ndef create(*_):\n    return None", "AttributeError"),
    "makes another vendor": (
        WELL_BEHAVED.replace("name = NAME", 'name = "amd"'),
        "a vendor of the name 'amd'",
    ),
}


@pytest.mark.parametrize(
    ("source", "reason"), [*UNUSABLE.values(), *UNMADE.values()], ids=[*UNUSABLE, *UNMADE]
)
async def test_a_vendor_that_cannot_be_used_is_left_out_and_told(
    node: Rig, source: str, reason: str
) -> None:
    daemon = await with_plugin(node, source, "example: {greeting: hello}")
    event = await daemon.wait_event("vendor_waits", vendor="example")
    assert reason in event["reason"]
    await others_are_served(node, daemon)


@pytest.mark.parametrize(("source", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_vendor_that_is_asked_for_by_name_must_be_usable(
    node: Rig, source: str, reason: str
) -> None:
    path = install(node.root / "plugins", source)
    ended = run_command("check", "--vendors", "amd,example", PYTHONPATH=path)
    assert ended.returncode == 2
    assert reason in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_nobody_replaces_a_vendor_of_ours(node: Rig) -> None:
    path = install(node.root / "plugins", WELL_BEHAVED.replace('"example"', '"amd"'), "amd")
    found = run_command("discover", "--format", "json", *root_of(node), PYTHONPATH=path)
    assert AMD in json.loads(found.stdout)["resources"]


def test_discover_tells_of_a_vendor_that_cannot_be_used(node: Rig) -> None:
    path = install(node.root / "plugins", "import no_such_module")
    found = run_command("discover", "--format", "json", *root_of(node), PYTHONPATH=path)
    errors = {v["name"]: v["error"] for v in json.loads(found.stdout)["vendors"]}
    assert "no_such_module" in errors.pop("example")
    assert errors == {"amd": None, "intel": None, "nvidia": None}


def root_of(node: Rig) -> tuple[str, str]:
    return ("--host-root", str(node.host_root))


async def with_plugin(node: Rig, source: str, config: str = "{}") -> DaemonProcess:
    """A daemon with a third party's vendor beside ours."""
    path = install(node.root / "plugins", source)
    await node.stub.start()
    return node.start("--config", str(node.config(config)), PYTHONPATH=path)


async def told(daemon: DaemonProcess, bad: Bad) -> None:
    """The log tells what the vendor did."""
    fields: Mapping[str, str] = {
        "vendor_waits": {"vendor": "example"},
        "vendor_conflict": {"vendor": "example"},
        "thread_failed": {"thread": "example-health"},
        "resource_added": {"resource": THING},
    }[bad.event]
    event = await daemon.wait_event(bad.event, WAIT_S, **fields)
    assert bad.told in json.dumps(event)


async def others_are_served(node: Rig, daemon: DaemonProcess) -> None:
    """Every device of ours is listed healthy, Allocate answers, the daemon is well."""
    await node.allocatable(THREE)
    await node.one_of_each(THREE)
    # What a vendor listed under our name before we looked is Unhealthy until no pod can hold it.
    await node.stub.wait_for(
        lambda: THREE.items() <= node.stub.capacity().items(), WAIT_S, "nothing more"
    )
    await daemon.answers("/healthz")
    assert node.stub.crashes == []
    assert daemon.events("task_failed") == []
