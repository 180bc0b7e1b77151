"""The documents say what the code does: links, settings, metrics, events and faults."""

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from deviceplugin import faults
from deviceplugin.alerts.section import MonitoringSection
from deviceplugin.cli import cli
from deviceplugin.daemon.metrics import DaemonMetrics
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.errors import Refusal
from deviceplugin.faults import COMMON, FORMER_NAMES
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubelet.metrics import KubeletMetrics
from deviceplugin.metrics.registry import Registry
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.model import FaultClass
from deviceplugin.page.section import PageSection
from deviceplugin.placement.section import SchedulingSection
from deviceplugin.resources.metrics import StateCollector
from deviceplugin.telemetry.section import TelemetrySection
from deviceplugin.testing.contract import contract_problems
from deviceplugin.testing.tree import write_tree
from tests.rig import run_command

ROOT = Path(__file__).parents[2]
CODE = ROOT / "deviceplugin"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
by_name = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@by_name
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@by_name
def test_commands_and_targets_that_are_shown_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"(?m)^([\w-]+):", text_of("Makefile")))
    assert set(re.findall(r"`make ([\w-]+)", text)) <= targets
    shown = re.findall(r"(?m)(?:^|`)(?:\.venv/bin/)?deviceplugin ([\w-]+)", text)
    assert set(shown) <= set(cli.commands)


def options() -> Iterator[tuple[str, str]]:
    for command in cli.commands.values():
        for parameter in command.params:
            for option in parameter.opts:
                yield command.name or "", option


@pytest.mark.parametrize("flag", sorted({option for _, option in options()}))
def test_every_flag_is_described(flag: str) -> None:
    assert f"`{flag}`" in text_of("docs/configuration.md")


def test_every_variable_is_described() -> None:
    text = text_of("docs/configuration.md")
    for flag in (option for command, option in options() if command == "run"):
        assert f"`DEVICEPLUGIN_{flag.strip('-').replace('-', '_').upper()}`" in text


def keys(prefix: str, schema: Any) -> Iterator[tuple[str, str]]:
    """Each key of a section as (path, default), the keys of structures in it included."""
    for field in schema.fields:
        path = f"{prefix}.{field.encode_name}"
        inner = structure(field.type)
        if not isinstance(field.type, msgspec.inspect.StructType):
            yield path, default_of(field)
        if inner is not None:
            whole = isinstance(field.type, msgspec.inspect.StructType)
            yield from keys(path if whole else f"{path}[]", inner)


def structure(kind: Any) -> Any:
    if isinstance(kind, msgspec.inspect.StructType):
        return kind
    inside = [*getattr(kind, "types", ()), *filter(None, [getattr(kind, "item_type", None)])]
    return next((found for part in inside if (found := structure(part))), None)


def default_of(field: Any) -> str:
    if field.required:
        return "required"
    factory = field.default_factory
    value = field.default if factory is msgspec.NODEFAULT else factory()
    if value is None:
        return "unset"
    plain = msgspec.to_builtins(value)
    return plain if isinstance(plain, str) else json.dumps(plain).replace('"', "")


SECTIONS = {name: s for module in load_vendors(None) for name, s in module.SECTIONS.items()}
SECTIONS |= {
    "scheduling": SchedulingSection,
    "metrics": MetricsSection,
    "telemetry": TelemetrySection,
}
SECTIONS |= {"page": PageSection, "monitoring": MonitoringSection}
KEYS = [
    key for name, s in sorted(SECTIONS.items()) for key in keys(name, msgspec.inspect.type_info(s))
]


@pytest.mark.parametrize(("key", "default"), KEYS, ids=[key for key, _ in KEYS])
def test_every_key_is_described_with_its_default(key: str, default: str) -> None:
    row = re.compile(rf"(?m)^\| `{re.escape(key)}` \| `?(.*?)`? \|")
    (shown,) = row.findall(text_of("docs/configuration.md"))
    assert shown == default


def test_no_key_is_described_that_does_not_exist() -> None:
    sections = "|".join(map(re.escape, SECTIONS))
    shown = re.findall(rf"(?m)^\| `((?:{sections})\.\S+)` \|", text_of("docs/configuration.md"))
    assert sorted(shown) == sorted(key for key, _ in KEYS)


EXAMPLES = [
    block
    for path in (ROOT / "docs/configuration.md", *sorted((ROOT / "docs/vendors").glob("*.md")))
    for block in fenced(path.read_text(), "yaml")
]


@pytest.mark.slow
@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.split("\n")[0])
def test_a_configuration_that_is_shown_is_valid(block: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(block)
    checked = run_command("check", "--config", str(path))
    assert checked.returncode == 0, checked.stderr
    *notes, last = checked.stderr.splitlines()
    assert last == "configuration is valid"
    assert all(note.startswith(("without effect: ", "configuration of this")) for note in notes)


def metric_names(registry: Registry) -> set[str]:
    ours = {family.name for family in registry.collect()}
    return {name for name in ours if name.startswith("deviceplugin_")}


def test_every_metric_is_described() -> None:
    registry = Registry()
    store = InventoryStore(lambda: 0.0)
    registry.register(KubeletMetrics())
    registry.register(DaemonMetrics())
    registry.register(StateCollector(lambda: store.current, dict))
    text = text_of("docs/operations.md")
    missing = {name for name in metric_names(registry) if f"`{name}" not in text}
    assert missing == set()


def test_every_refusal_is_described() -> None:
    text = text_of("docs/operations.md")
    assert [reason for reason in Refusal if f"`{reason}`" not in text] == []


def test_every_fault_class_is_described() -> None:
    text = text_of("docs/operations.md")
    assert [kind for kind in FaultClass if f"`{kind}`" not in text] == []


def found_in(pattern: str, *paths: Path) -> set[str]:
    return {name for path in paths for name in re.findall(pattern, path.read_text())}


def test_every_log_event_is_described() -> None:
    calls = r'log\.(?:info|warning|error|exception)\(\s*"(\w+)"'
    paths = [path for path in CODE.rglob("*.py") if "testing" not in path.parts]
    journal = found_in(r'yield "(\w+)"|^ +"(\w+)",$', CODE / "inventory/changes.py")
    events = found_in(calls, *paths) | {name for pair in journal for name in pair if name}
    text = text_of("docs/operations.md")
    assert {name for name in events if f"`{name}`" not in text} == set()


def test_every_common_fault_code_is_described_with_its_class() -> None:
    rows = re.findall(r"(?m)^\| `([a-z_]+)` \| ([a-z]+) \|", text_of("docs/health.md"))
    assert dict(rows) == {code: str(common.kind) for code, common in COMMON.items()}


def test_every_former_fault_name_is_described() -> None:
    rows = re.findall(r"(?m)^\| `(\S+/\S+)` \| `(\S+/\S+)` \|$", text_of("docs/health.md"))
    short = {new.removeprefix("<vendor>"): old.removeprefix("<vendor>") for old, new in rows}
    assert short == FORMER_NAMES


def test_every_fault_of_nvidia_is_described() -> None:
    codes = r'(?:code=|_told\(\s*\w+, |GPU_IS_LOST: |RESET_REQUIRED: )"([a-z]+_[a-z_]+)"'
    own = tuple((CODE / "vendors/nvidia").glob("*.py"))
    common = {getattr(faults, name).code for name in found_in(r"\b([A-Z_]+)\.fault\(", *own)}
    found = found_in(codes, *own, CODE / "discovery/loop.py") | common
    text = text_of("docs/operations.md")
    assert {"gpu_lost", "not_single", "node_missing"} <= found
    assert {code for code in found if f"`{code}`" not in text} == set()


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("acme_gpus", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_vendor_keeps_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "acme_gpus.py"
    path.write_text(fenced(text_of("docs/vendors.md"), "python")[0])
    module = load_module(path)
    root = tmp_path / "host"
    write_tree(root, fenced(text_of("docs/vendors.md"), "text")[0])
    sections = {name: schema() for name, schema in module.SECTIONS.items()}
    vendor = partial(module.create, Host(root))(sections)
    assert [device.resource for device in vendor.discover().devices] == ["acme.example/gpu"]
    assert contract_problems(vendor, Host(root)) == []
