"""Sharing methods, variables and nouns that a vendor brings: what rules may say, and what fails."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from deviceplugin.config.load import CORE_SECTIONS
from deviceplugin.config.schema import decode
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.errors import AllocationError, ConfigError, UnavailableError, VendorError
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Device, Isolation, ResourceName, Share, frozen
from deviceplugin.resources.allocation import check_request
from deviceplugin.resources.methods import launches_of, sharing_problem, sharing_schema
from deviceplugin.resources.plan import Sharing, sharing_of
from deviceplugin.resources.programs import Programs
from deviceplugin.resources.section import SharingSection, check_rules
from deviceplugin.resources.services import services_of
from deviceplugin.runtime.latest import Latest
from deviceplugin.schema import Section
from deviceplugin.vendor import Command, Launch, Program, Sections, SharedResource
from tests.resources.builders import gpu, inventory, sharing

WAIT_S = 60.0


class Settings(Section, frozen=True):
    root: str = "/run/vnpu"


class Vnpu:
    """A third party's way to share: the program, and what a container gets."""

    TITLE, DEVICES, ADVICE = "vNPU", "whole Example NPUs", "see /run/vnpu/log"
    SETTINGS: type[msgspec.Struct] = Settings
    program = Program(arguments=("sleep", "600"), env=frozen({"PATH": "/usr/bin:/bin"}))

    def refusal(self, device: Device) -> str | None:
        return "not supported for vNPUs" if device.parent else None

    def isolation(self, share: Share) -> Isolation:
        return Isolation.PROCESS

    def prepare(self, host: Host, sections: Sections) -> Launch:
        return lambda shared: self.program

    def edits(self, resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        assert isinstance(settings, Settings)
        return ContainerEdits(env=frozen({"VNPU_ROOT": f"{settings.root}/{resource}"}))


def module(**changed: Any) -> Any:
    values = {
        "NAME": "example",
        "SECTIONS": {},
        "SHARING": {"vnpu": Vnpu()},
        "SHARE_VARIABLES": ("EXAMPLE_LIMIT",),
    }
    return SimpleNamespace(**values | changed)


def installed(*rules: dict[str, Any], settings: Any = None, **changed: Any) -> Sharing:
    """What a node with the built-in vendors and this one makes of the rules."""
    schemas = {**CORE_SECTIONS, "sharing": sharing_schema((*load_vendors(None), module(**changed)))}
    raw = {"rules": list(rules), "sharing": settings or {}}
    made = sharing_of({key: decode(raw[key], schemas[key], key) for key in raw})
    check_rules(made.rules, made.section)
    return made


NPU = gpu(0, vendor="example", resource=ResourceName("example.com/npu"), noun="npu")
SHARED: dict[str, Any] = {"offers": [{"replicas": 4, "sharing": "vnpu"}]}


def test_a_vendors_method_shares_its_devices_and_declares_what_it_isolates() -> None:
    plan = installed(SHARED).plan(inventory(NPU))
    (resource,) = plan.resources.values()
    assert (resource.isolation, len(resource.devices)) == (Isolation.PROCESS, 4)


@pytest.mark.parametrize(
    ("rule", "device", "why"),
    [
        (SHARED, gpu(0), "whole Example NPUs, not for devices of vendor nvidia"),
        (
            {**SHARED, "match": {"profile": "*"}},
            gpu(0, vendor="example", parent=NPU.id, profile="vir02"),
            "whole Example NPUs, not supported for vNPUs",
        ),
        (
            {"offers": [{"replicas": 2, "sharing": "mps"}]},
            NPU,
            "using MPS is for whole NVIDIA GPUs, not for devices of vendor example",
        ),
    ],
    ids=["another vendor's device", "its own partition", "MPS for an NPU"],
)
def test_a_refusal_tells_the_right_reason(rule: dict[str, Any], device: Any, why: str) -> None:
    (problem,) = installed(rule).plan(inventory(device)).problems
    assert problem.reason.endswith(why)


@pytest.mark.parametrize(
    ("offer", "key", "choices"),
    [
        ({"replicas": 2, "sharing": "mpss"}, "sharing", "one of time-slicing, mps, vnpu"),
        (
            {"replicas": 2, "variables": ["EXAMPLE_LIMIT", "ASCEND_MEM_LIMIT"]},
            "variables[1]",
            "CUDA_DEVICE_SM_LIMIT, EXAMPLE_LIMIT",
        ),
    ],
    ids=["method", "variable"],
)
def test_a_wrong_word_is_told_with_the_choices(offer: Any, key: str, choices: str) -> None:
    with pytest.raises(ConfigError, match=choices) as refused:
        installed({"offers": [offer]})
    assert refused.value.key == f"rules[0].offers[0].{key}"


def test_a_methods_settings_stand_under_its_name() -> None:
    made = installed(SHARED, settings={"vnpu": {"root": "/run/other"}})
    plan = made.plan(inventory(NPU))
    (resource,) = plan.resources.values()
    found = made.granted(resource, resource.devices[:1], [NPU])
    assert found.edits.env["VNPU_ROOT"] == "/run/other/example.com/npu"
    assert found.edits.env["GPU_SHARE_ISOLATION"] == "process"
    assert [(g.count, g.memory_bytes, g.percent) for g in found.grants] == [(1, 20 << 30, 25)]
    with pytest.raises(ConfigError) as refused:
        installed(settings={"vnpu": {"rooot": "/x"}})
    assert refused.value.key == "sharing.vnpu.rooot"


def test_the_same_settings_are_equal_in_two_readings_of_a_configuration() -> None:
    one, again, other = (
        installed(settings={"vnpu": {"root": root}}).section for root in ("/a", "/a", "/b")
    )
    assert one == again
    assert hash(one) == hash(again)
    assert one != other


def test_memory_is_named_by_the_devices_noun_and_its_own_domain() -> None:
    rule: dict[str, Any] = {"offers": [{"memory": {}}]}
    assert list(sharing(rule).plan(inventory(NPU)).resources) == ["example.com/npu-memory"]


def test_messages_say_the_devices_noun() -> None:
    more = gpu(1, vendor="example", resource=ResourceName("example.com/npu"), noun="npu")
    made = sharing({"offers": [{"memory": {}}]})
    (resource,) = made.plan(inventory(NPU, more)).resources.values()
    spread = [resource.devices[0], resource.devices[-1]]
    with pytest.raises(AllocationError, match=r"2 slices fit on 1 NPU\(s\)"):
        check_request(resource, spread)
    (problem,) = (
        sharing({"offers": [{"replicas": 2}]}, isolation="hardware").plan(inventory(NPU)).problems
    )
    assert problem.action.startswith("offer whole NPUs")


@pytest.mark.parametrize(
    ("vendor", "resource"),
    [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu"), ("intel", "gpu.intel.com/xe")],
)
def test_the_built_in_vendors_keep_their_names_of_memory(vendor: str, resource: str) -> None:
    device = gpu(0, vendor=vendor, resource=ResourceName(resource))
    plan = sharing({"offers": [{"memory": {}}]}).plan(inventory(device))
    assert list(plan.resources) == [f"{vendor}.com/gpu-memory"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"SHARING": [1]}, "SHARING is not a mapping"),
        ({"SHARING": {"time-slicing": Vnpu()}}, "'time-slicing' is not named by a word"),
        ({"SHARING": {"mps": Vnpu()}}, "'mps' is that of another vendor"),
        ({"SHARING": {"x": SimpleNamespace(refusal=1)}}, "'x' has no refusal()"),
        ({"SHARE_VARIABLES": "CUDA"}, "not a tuple"),
        ({"SHARE_VARIABLES": ("CUDA", 1)}, "not a tuple of names"),
        ({"RESOURCE_DOMAIN": "not a domain"}, "RESOURCE_DOMAIN 'not a domain' is not a domain"),
    ],
    ids=["mapping", "name", "taken", "part", "variables", "one variable", "domain"],
)
def test_a_module_whose_sharing_cannot_be_used_is_told_why(changed: Any, problem: str) -> None:
    found = sharing_problem(module(**changed), load_vendors(None))
    assert found is not None
    assert problem in found


def test_a_module_whose_sharing_is_right_has_no_problem() -> None:
    assert sharing_problem(module(), load_vendors(None)) is None


class Broken(Vnpu):
    def refusal(self, device: Device) -> str | None:
        raise KeyError("bug")

    def prepare(self, host: Host, sections: Sections) -> Launch:
        raise KeyError("bug")

    def edits(self, resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        raise KeyError("bug")


def test_a_method_that_fails_costs_its_own_resource() -> None:
    made = installed(SHARED, SHARING={"vnpu": Broken()})
    (problem,) = made.plan(inventory(NPU)).problems
    assert "its method failed" in problem.reason
    launch = launches_of(made, Host(), {})["vnpu"]
    with pytest.raises(VendorError, match=r"vnpu\.prepare.*KeyError"):
        launch(SharedResource(name=ResourceName("a/b"), devices=(NPU,), replicas=4))
    (resource,) = installed(SHARED).plan(inventory(NPU)).resources.values()
    with pytest.raises(VendorError, match="KeyError"):
        made.granted(resource, resource.devices[:1], [NPU])


class Absent(Vnpu):
    """Its program comes later, and goes again."""

    present = False
    asked = 0

    def prepare(self, host: Host, sections: Sections) -> Launch:
        self.asked += 1
        if not self.present:
            raise UnavailableError("there is no vnpud")
        return super().prepare(host, sections)


def test_a_program_that_is_absent_is_asked_for_again_until_it_is_there() -> None:
    method = Absent()
    launch = launches_of(installed(SHARED, SHARING={"vnpu": method}), Host(), {})["vnpu"]
    shared = SharedResource(name=ResourceName("a/b"), devices=(NPU,), replicas=4)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="there is no vnpud"):
            launch(shared)
    method.present = True
    assert launch(shared) == launch(shared)
    method.present = False
    launch(shared)  # what is found stays found: containers are its clients
    assert method.asked == 3


def test_a_method_that_is_broken_is_asked_once() -> None:
    class Wrong(Absent):
        def prepare(self, host: Host, sections: Sections) -> Launch:
            self.asked += 1
            raise KeyError("bug")

    method = Wrong()
    launch = launches_of(installed(SHARED, SHARING={"vnpu": method}), Host(), {})["vnpu"]
    for _ in range(3):
        with pytest.raises(VendorError, match="KeyError"):
            launch(SharedResource(name=ResourceName("a/b"), devices=(NPU,), replicas=4))
    assert method.asked == 1


@pytest.mark.slow
async def test_devices_wait_for_an_absent_program_with_the_reason() -> None:
    method = Absent()
    rig = Rig(method)
    following = rig.follow()
    await rig.until("there is no vnpud")
    method.present = True
    await rig.until(None)
    following.cancel()
    await asyncio.wait([following])


@pytest.mark.slow
async def test_a_program_that_runs_stays_while_the_new_settings_find_none() -> None:
    method = Absent()
    method.present = True
    rig = Rig(method)
    following = rig.follow()
    await rig.until(None)
    method.present, asked = False, method.asked
    rig.programs.use(launches_of(rig.sharing, Host(), {}))
    async with asyncio.timeout(WAIT_S):
        while method.asked == asked:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.01)
    assert rig.reasons() == []
    following.cancel()
    await asyncio.wait([following])


class Odd(Vnpu):
    """Its answers are of other types than the contract's."""

    def isolation(self, share: Share) -> Isolation:
        return "very"  # type: ignore[return-value]  # as a plug-in may

    def prepare(self, host: Host, sections: Sections) -> Launch:
        return lambda _: None  # type: ignore[return-value]  # as a plug-in may

    def edits(self, resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        return None  # type: ignore[return-value]  # as a plug-in may


def test_answers_of_other_types_cost_their_own_resource() -> None:
    made = installed(SHARED, SHARING={"vnpu": Odd()})
    (resource,) = made.plan(inventory(NPU)).resources.values()
    assert resource.isolation is Isolation.NONE
    with pytest.raises(VendorError, match=r"vnpu\.edits"):
        made.granted(resource, resource.devices[:1], [NPU])
    (_, shared), *_ = services_of({resource.name: resource}, {NPU.id: NPU}).values()
    with pytest.raises(VendorError, match="not a Program"):
        launches_of(made, Host(), {})["vnpu"](shared)


def test_one_resource_is_shared_by_one_method() -> None:
    other = gpu(1, vendor="example", resource=ResourceName("example.com/npu"), noun="npu")
    rules = [
        {"match": {"index": 0}, "offers": [{"replicas": 4, "sharing": "vnpu"}]},
        {"match": {"index": 1}, "offers": [{"replicas": 4, "sharing": "other"}]},
    ]
    made = installed(*rules, SHARING={"vnpu": Vnpu(), "other": Vnpu()})
    (problem,) = made.plan(inventory(NPU, other)).problems
    assert problem.reason == "its devices would be shared by several methods"


class Rig:
    """The programs of a plan with one NPU that four containers share."""

    def __init__(self, method: Vnpu) -> None:
        self.sharing = installed(SHARED, SHARING={"vnpu": method})
        self.node = inventory(NPU)
        self.plan = self.sharing.plan(self.node)
        self.changed = Latest(0)
        launches = launches_of(self.sharing, Host(), {})
        self.programs = Programs(launches, self._change)

    def _change(self) -> None:
        self.changed.set(self.changed.value + 1)

    def reasons(self) -> list[str]:
        methods = self.sharing.section.METHODS
        faults = self.programs.faults(self.plan.resources, self.node.devices, methods)
        assert {(f.source, f.code, f.action) for f in faults} <= {
            ("vnpu", "vnpu_not_ready", "see /run/vnpu/log")
        }
        return [fault.reason for fault in faults]

    async def until(self, text: str | None) -> None:
        def there() -> bool:
            reasons = self.reasons()
            return not reasons if text is None else any(text in r for r in reasons)

        async with asyncio.timeout(WAIT_S):
            await self.changed.until(lambda _: there())

    def follow(self) -> "asyncio.Task[None]":
        resources = Latest(self.plan.resources)
        return asyncio.create_task(self.programs.follow(resources, lambda: self.node.devices))


@pytest.mark.slow  # it starts a process
async def test_a_program_without_a_probe_serves_once_it_is_started() -> None:
    rig = Rig(Vnpu())
    assert rig.reasons() == ["vNPU of example.com/npu does not serve: it is starting"]
    following = rig.follow()
    await rig.until(None)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert rig.reasons() != []


@pytest.mark.slow  # it starts a process
async def test_a_program_is_ready_when_its_probe_and_its_setup_succeed(tmp_path: Path) -> None:
    folder = tmp_path / "vnpu"
    method = Vnpu()
    method.program = Program(
        arguments=("sh", "-c", f"touch {folder}/up; exec sleep 600"),
        env=frozen({"PATH": "/usr/bin:/bin"}),
        folders=(str(folder),),
        probe=Command(arguments=("test", "-e", f"{folder}/up")),
        setup=(Command(arguments=("sh", "-c", f"cat > {folder}/limits"), text="4 clients\n"),),
    )
    rig = Rig(method)
    following = rig.follow()
    await rig.until(None)
    assert (folder / "limits").read_text() == "4 clients\n"
    following.cancel()
    await asyncio.wait([following])


def touching(path: Path) -> Program:
    """A program that serves once it has made a file."""
    return Program(
        arguments=("sh", "-c", f"touch {path}; exec sleep 600"),
        env=frozen({"PATH": "/usr/bin:/bin"}),
        probe=Command(arguments=("test", "-e", str(path))),
    )


@pytest.mark.slow  # it starts a process
async def test_another_program_of_a_reload_is_started_although_the_plan_is_the_same(
    tmp_path: Path,
) -> None:
    method = Vnpu()
    method.program = touching(tmp_path / "one")
    rig = Rig(method)
    following = rig.follow()
    await rig.until(None)
    method.program = touching(tmp_path / "other")
    rig.programs.use(launches_of(rig.sharing, Host(), {}))
    async with asyncio.timeout(WAIT_S):
        await rig.changed.until(lambda _: (tmp_path / "other").exists() and not rig.reasons())
    following.cancel()
    await asyncio.wait([following])


@pytest.mark.slow  # it starts a process
async def test_a_program_that_cannot_be_started_is_a_fault_with_its_reason() -> None:
    method = Vnpu()
    method.program = Program(arguments=("/no/such/program",))
    rig = Rig(method)
    following = rig.follow()
    await rig.until("/no/such/program: No such file")
    following.cancel()
    await asyncio.wait([following])


def test_a_resource_that_no_method_shares_needs_no_program() -> None:
    plan = sharing({"offers": [{"replicas": 2}]}).plan(inventory(NPU))
    assert services_of(plan.resources, inventory(NPU).devices) == {}


def test_a_method_that_no_vendor_has_any_more_needs_no_launch() -> None:
    used = installed(SHARED)
    assert set(launches_of(used, Host(), {})) == {"vnpu"}
    gone = msgspec.structs.replace(used, section=SharingSection())
    assert launches_of(gone, Host(), {}) == {}


def test_settings_that_were_read_do_not_change() -> None:
    section = installed(SHARED).section
    with pytest.raises(AttributeError):
        section.vnpu = Settings(root="/elsewhere")  # type: ignore[attr-defined]  # made at run time


def test_settings_of_a_method_that_nobody_has_are_let_through_where_a_vendor_is_missing() -> None:
    raw = {"vnpu": {"root": "/run"}, "gone": {"key": 1}}
    with pytest.raises(ConfigError, match="gone"):
        decode(raw, sharing_schema([module()]), "sharing")
    made = decode(raw, sharing_schema([module()], strict=False), "sharing")
    assert made.vnpu == Settings(root="/run")


def test_a_method_that_two_vendors_have_is_the_first_ones() -> None:
    first, second = module(NAME="first"), module(NAME="second")
    methods = sharing_schema([first, second]).METHODS
    assert {name: method.vendor for name, method in methods.items()} == {"vnpu": "first"}
