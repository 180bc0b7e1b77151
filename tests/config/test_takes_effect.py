"""Every key of the schema is in force as soon as a reload that changes it is over.

What is in force stands in the objects that the daemon's parts lead to. A daemon that was reloaded
from one configuration to another must hold the same settings as one that was started with the
other: wherever two fresh daemons differ, the reloaded one is like the second.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import msgspec
import pytest
import structlog

from deviceplugin.config.config import Config
from deviceplugin.config.effective import effective
from deviceplugin.config.load import CORE_SECTIONS, PLACES, load
from deviceplugin.config.reload import Origin, Reloader
from deviceplugin.daemon.assembly import assemble
from deviceplugin.daemon.core import Start
from deviceplugin.daemon.daemon import Daemon
from deviceplugin.daemon.generation import with_vendors
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.enforcement.standing import Standing
from deviceplugin.health.watch_reports import WatchReports
from deviceplugin.host.trace import TracingHost
from deviceplugin.metrics.registry import Counter, Histogram
from deviceplugin.provision.follow import Follower
from deviceplugin.provision.on_demand import OnDemand
from deviceplugin.resources.methods import sharing_schema
from deviceplugin.runtime.keep import Keeper
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.vendor import VendorModule
from tests.docs.test_docs import keys, structure
from tests.rig import WAIT_S

T = TypeVar("T")
Document = dict[str, Any]
ABSENT = "absent"
MODULES = load_vendors(None)
SECTIONS = {name: schema for module in MODULES for name, schema in module.SECTIONS.items()}
SECTIONS |= {**CORE_SECTIONS, "sharing": sharing_schema(MODULES)}
SETTINGS = (
    "node_name",
    "vendors",
    "metrics_address",
    "log_level",
    "log_format",
    "allow_unsupported",
    *PLACES,
)


def all_keys() -> Iterator[str]:
    """`log_level`, `isolation`, `health.hold_s`, `rules[].offers[].replicas`."""
    yield from SETTINGS
    for name, schema in SECTIONS.items():
        info = msgspec.inspect.type_info(schema)
        inner = structure(info)
        if inner is None:
            yield name
        else:
            whole = isinstance(info, msgspec.inspect.StructType)
            yield from (key for key, _ in keys(name if whole else f"{name}[]", inner))


RULE: Document = {"rules": [{"offers": [{"replicas": 2}]}]}
SLICES: Document = {"rules": [{"offers": [{"memory": {"unit": "1GiB"}}]}]}
RANGE: Document = {"rules": [{"offers": [{"replicas": 2}], "match": {"memory": {"min": "1GiB"}}}]}
BOTH: Document = {"rules": [{"offers": [{"replicas": 2}, {"memory": {"unit": "1GiB"}}]}]}
CONTROL = "nvidia-cuda-mps-control"
MPS: Document = {
    "rules": [{"offers": [{"replicas": 2, "sharing": "mps"}]}],
    "sharing": {"mps": {"control": f"/opt/one/{CONTROL}"}},
}
ACCOUNT = Path(__file__).parents[1] / "kubernetes/account"
CERTIFICATE = {"certificate_file": str(ACCOUNT / "ca.crt"), "key_file": str(ACCOUNT / "key.pem")}
HOT = {"name": "hot", "condition": "temperature > 85°C"}
WATCHED: Document = {"monitoring": {"enabled": True, "alerts": [HOT]}}
BOARD = {"name": "gpu_details", "refresh": "10s"}
DRAWN: Document = {"monitoring": {"enabled": True, "dashboards": [BOARD]}}
TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
CUT: Document = {"partitions": [{"mig": {"1g.5gb": 1}}]}
FUNCTIONS: Document = {"partitions": [{"virtual_functions": {"count": 2}}]}
FILED: Document = {"partitioning": {"file": "/etc/layouts/config.yaml", "layout": "a"}}
NODE: Document = {"gpu_nodes": [{"name": "node-1"}]}
REPEAT = {"nvidia.xid/31": {"count": 3, "window_s": 60, "class": "reset"}}


FLEET: Document = {
    "per_node": {"configurations": {"quiet": {"log_level": "error"}, "bare": {"vendors": ["amd"]}}}
}


def named(**keys: object) -> Document:
    """The fleet's configurations, chosen by `keys`."""
    return {"per_node": FLEET["per_node"] | keys}


def nested(key: str, value: object) -> Document:
    """`a.b[].c` and a value as a document with lists of one item."""
    head, _, rest = key.partition(".")
    inner = nested(rest, value) if rest else value
    return {head.removesuffix("[]"): [inner] if head.endswith("[]") else inner}


def changed(key: str, value: object, beside: Document | None = None) -> tuple[Document, Document]:
    """The document without the key and with it; `beside` is what it needs beside it."""
    before = beside or {}
    return before, merged(before, nested(key, value))


def merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {k: merged(one[k], v) if k in one else v for k, v in other.items()}
    if isinstance(one, list) and isinstance(other, list):
        return [merged(a, b) for a, b in zip(one, other, strict=True)]
    return other


def partitions(section: str, key: str, cores: str) -> Mapping[str, tuple[Document, Document]]:
    """The version and the list of a section that says which partitions are offered."""
    one = {section: {key: [{"name": "mig-a", "memory": "1GiB"}]}}
    items = {"name": "mig-b", "memory": "2GiB", "compute_units": 7, cores: 7}
    return {
        f"{section}.version": changed(f"{section}.version", "7"),
        f"{section}.{key}": ({}, one),
        **{
            f"{section}.{key}[].{name}": changed(f"{section}.{key}[].{name}", value, one)
            for name, value in items.items()
        },
    }


def made(section: str, name: str) -> Mapping[str, tuple[Document, Document]]:
    """What of a list of instances is made."""
    one = {section: {"instances": [{"name": name, "memory": "4GiB"}]}}
    on = merged(one, {section: {"provision": True}})
    return {
        f"{section}.provision": (one, on),
        f"{section}.instances[].count": changed(f"{section}.instances[].count", 2, on),
    }


def watched(**keys: object) -> tuple[Document, Document]:
    """With the alert or the dashboard, and with others."""
    before = {"alerts": [HOT], "dashboards": [BOARD]}
    return {"monitoring": {"enabled": True, **before}}, {
        "monitoring": {"enabled": True, **before, **keys}
    }


CHANGES: Mapping[str, tuple[Document, Document]] = {
    key: changed(key, value)
    for key, value in {
        "vendors": ["amd", "nvidia"],
        "log_level": "error",
        "log_format": "console",
        "cuda.runtime.memory_pool": True,
        "cuda.runtime.unified_memory": True,
        "cuda.runtime.memory_compression": True,
        "oneapi.runtime.memory_pool": True,
        "oneapi.runtime.unified_memory": True,
        "scheduling.preemption": True,
        "isolation": "process",
        "health.disable": ["79"],
        "health.enable": ["nvidia.xid/31"],
        "health.classes": {"nvidia.xid/79": "warn"},
        "health.hold_s": 4,
        "health.hold_max_s": 601,
        "health.flap_limit": 7,
        "health.flap_window_s": 3601,
        "health.escalate_after_reboots": 3,
        "health.event_ttl_s": 3601,
        "health.agents": False,
        "health.call_deadline_s": 6,
        "kubernetes.events": True,
        "kubernetes.condition": True,
        "kubernetes.taint": "any",
        "kubernetes.facts": True,
        "labels.apply": "file",
        "labels.vendor_labels": True,
        "labels.common_labels": True,
        "labels.node_type": "edge",
        "labels.directory": "/etc/kubernetes/node-feature-discovery/else",
        "labels.expires_s": 7200,
        "labels.taints": [TAINT],
        "dra.enabled": True,
        "dra.driver": "gpu.example.com",
        "dra.vendors": ["nvidia"],
        "dra.handover": True,
        "dra.gates": ["DRAPartitionableDevices"],
        "audit.enabled": True,
        "enforcement.memory": "cgroup",
        "enforcement.minimum": True,
        "enforcement.failure": "warn",
        "enforcement.file": True,
        "enforcement.writer": "helper",
        "enforcement.nvidia.library": "/opt/vgpu/libvgpu.so",
        "enforcement.excess.watch": True,
        "enforcement.excess.tolerance_percent": 7,
        "enforcement.excess.policy": "evict-request",
        "metrics.pods": True,
        "runs.enabled": True,
        "telemetry.enabled": True,
        "telemetry.interval_s": 7.0,
        "telemetry.processes": True,
        "telemetry.history": True,
        "telemetry.compatibility": ["dcgm"],
        "scheduling.policy": "spread",
        "scheduling.proximity_to": "eth7",
        "scheduling.priority[].id": "x*",
        "scheduling.priority[].product": "x*",
        "scheduling.priority[].vendor": "x*",
        "scheduling.priority[].pci_address": "x*",
        "scheduling.priority[].numa_node": 1,
        "sharing.mps.root": "/run/nvidia/mps/else",
        "sharing.mps.clients": "directories",
        "nvidia.mig_strategy": "single",
        "nvidia.device_list_strategy": ["cdi-cri"],
        "nvidia.device_id_strategy": "index",
        "nvidia.pass_device_specs": True,
        "nvidia.driver_root": "/opt/else",
        "nvidia.driver_library_dirs": ["/opt/else"],
        "nvidia.dev_root": "/opt/else",
        "nvidia.cdi_annotation_prefix": "else.com/",
        "nvidia.cdi_hook_path": "/opt/else/nvidia-ctk",
        "amd.resource_naming": "mixed",
        "amd.card_nodes": True,
        "amd.device_list_strategy": ["cdi-cri"],
        "amd.hsa_override_gfx_version": "9.0.6",
        "amd.rocm_path": "/else",
        "nvidia.library_process": True,
        "nvidia.device_discovery_strategy": "nvml",
        "nvidia.gds": True,
        "nvidia.mofed": True,
        "nvidia.gdrcopy": True,
        "nvidia.imex_channels": [0],
        "cuda.version": "12.5",
        "rocm.version": "7",
        "rocm.features": ["x"],
        "rocm.libraries": ["x"],
        "vgpu.features": ["improved_scheduling"],
        "mxgpu.enabled": False,
        "mxgpu.guest_naming": "size",
        "mxgpu.scheduling.policy": "spread",
        "mxgpu.scheduling.isolation": "hardware",
        "rocm.runtime.memory_pool": True,
        "rocm.runtime.unified_memory": True,
        "rocm.runtime.cooperative_groups": True,
        "intel.resource_naming": "driver",
        "intel.monitoring": 3,
        "intel.by_path": False,
        "intel.device_list_strategy": ["cdi-cri"],
        "intel_xe.enabled": False,
        "intel_xe.scheduling.policy": "spread",
        "intel_xe.scheduling.isolation": "hardware",
        "mig.enabled": False,
        "mig.scheduling.policy": "spread",
        "mig.scheduling.isolation": "hardware",
        "vgpu.enabled": False,
        "vgpu.scheduling.policy": "spread",
        "vgpu.scheduling.isolation": "hardware",
        "health.repeats": REPEAT,
        "scheduling.priority": [{"id": "x*"}],
    }.items()
}
CHANGES = {
    **CHANGES,
    **partitions("mig", "instances", "tensor_cores"),
    **partitions("vgpu", "profiles", "tensor_cores"),
    **partitions("mxgpu", "instances", "rocm_cores"),
    **partitions("intel_xe", "instances", "execution_units"),
    **made("mig", "mig-1g.5gb"),
    **made("mxgpu", "mxgpu-4gb"),
    **made("intel_xe", "xe-4gb"),
    **{
        f"rules[].{key}": changed(f"rules[].{key}", value, RULE)
        for key, value in {
            "offers[].replicas": 3,
            "offers[].name": "example.com/shared",
            "offers[].max_per_container": 2,
            "offers[].distinct": True,
            "offers[].policy": "spread",
            "match.vendor": "nvidia",
            "match.product": "x*",
            "match.uuid": "x*",
            "match.pci_address": "x*",
            "match.index": 1,
            "match.memory": {"min": "1GiB"},
            "match.profile": "x*",
            "match.driver": "x*",
            "match.resource": "x*",
            "count": 1,
        }.items()
    },
    "rules[].apis": changed("rules[].apis", ["dra"], RULE),
    "rules[].label": changed("rules[].label", "mine", RULE),
    "rules[].offers": (RULE, SLICES),
    "rules[].joined": (BOTH, {"rules": [{**BOTH["rules"][0], "joined": True}]}),
    "rules[].offers[].whole": (RULE, {"rules": [{"offers": [{"whole": True}]}]}),
    "rules[].offers[].memory": (RULE, SLICES),
    "rules[].offers[].memory[].unit": (
        SLICES,
        {"rules": [{"offers": [{"memory": {"unit": "2GiB"}}]}]},
    ),
    "rules[].offers[].memory[].reserve": (
        SLICES,
        {"rules": [{"offers": [{"memory": {"unit": "1GiB", "reserve": "1GiB"}}]}]},
    ),
    "enforcement.nvidia.mps": changed("enforcement.nvidia.mps", "auto", SLICES),
    "rules[].offers[].compute": changed("rules[].offers[].compute", "1%", SLICES),
    "rules[].offers[].sharing": (RULE | {"sharing": MPS["sharing"]}, MPS),
    "rules[].offers[].variables": changed(
        "rules[].offers[].variables", ["CUDA_DEVICE_SM_LIMIT"], RULE
    ),
    "rules[].match.memory[].min": changed("rules[].match.memory.min", "2GiB", RANGE),
    "rules[].match.memory[].max": changed("rules[].match.memory.max", "2GiB", RANGE),
    "sharing.mps.control": changed("sharing.mps.control", f"/opt/other/{CONTROL}", MPS),
    **{
        f"labels.taints[].{key}": changed(
            f"labels.taints[].{key}", value, {"labels": {"taints": [TAINT]}}
        )
        for key, value in {"key": "amd.com/gpu", "effect": "NoExecute", "value": "present"}.items()
    },
    "metrics.certificate_file": ({}, {"metrics": CERTIFICATE}),
    "metrics.key_file": ({}, {"metrics": CERTIFICATE}),
    "metrics.token_file": changed(
        "metrics.token_file", str(ACCOUNT / "token"), {"metrics": CERTIFICATE}
    ),
    "metrics.token_review": changed("metrics.token_review", True, {"metrics": CERTIFICATE}),
    "nvidia.imex_required": changed(
        "nvidia.imex_required", True, {"nvidia": {"imex_channels": [0]}}
    ),
    "per_node.labels": ({}, {"per_node": {"labels": "api"}}),
    "per_node.label": ({}, {"per_node": {"label": "else"}}),
    "per_node.default": (FLEET, named(default="quiet")),
    "per_node.nodes": (FLEET, named(nodes=[{"name": "*", "use": "quiet"}])),
    "per_node.nodes[].name": (
        named(nodes=[{"name": "else", "use": "quiet"}]),
        named(nodes=[{"name": "*", "use": "quiet"}]),
    ),
    "per_node.nodes[].use": (
        named(nodes=[{"name": "*", "use": "quiet"}]),
        named(nodes=[{"name": "*", "use": "bare"}]),
    ),
    "per_node.configurations": (
        named(default="quiet"),
        {"per_node": {"default": "quiet", "configurations": {"quiet": {"log_level": "warning"}}}},
    ),
    "gpu_nodes[].name": (NODE, {"gpu_nodes": [{"name": "other"}]}),
    "gpu_nodes[].gpu_type": changed("gpu_nodes[].gpu_type", "x", NODE),
    "gpu_nodes[].gpu_count": changed("gpu_nodes[].gpu_count", 3, NODE),
    "gpu_nodes[].memory_per_gpu": changed("gpu_nodes[].memory_per_gpu", "1GiB", NODE),
    "gpu_nodes[].scheduling_policy": changed("gpu_nodes[].scheduling_policy", "spread", NODE),
    "node_name": changed(
        "node_name", "node-2", {"gpu_nodes": [{"name": "node-1", "scheduling_policy": "spread"}]}
    ),
    "allow_unsupported": (
        {},
        {"allow_unsupported": True, "data_protection": {"encryption": {"in_use": True}}},
    ),
    "metrics_address": changed("metrics_address", "127.0.0.1:0", {"metrics_address": ""}),
}
CHANGES = {
    **CHANGES,
    **{
        f"partitions[].{key}": changed(f"partitions[].{key}", value, CUT)
        for key, value in {
            "select.vendor": "nvidia",
            "select.product": "H200",
            "select.index": [1],
            "select.id": "GPU-1",
            "select.address": "0000:07:00.0",
            "select.device": ["0x233510DE"],
            "mig": {"1g.5gb": 2},
            "adopt": True,
        }.items()
    },
    "partitions[].on_demand": (CUT, {"partitions": [{"on_demand": True}]}),
    "partitions[].none": (CUT, {"partitions": [{"none": True}]}),
    "partitions[].compute": (CUT, {"partitions": [{"compute": "CPX"}]}),
    "partitions[].memory": (CUT, {"partitions": [{"memory": "NPS4"}]}),
    "partitions[].virtual_functions": (CUT, FUNCTIONS),
    **{
        f"partitions[].virtual_functions[].{key}": (
            FUNCTIONS,
            {"partitions": [{"virtual_functions": {"count": 2, key: value}}]},
        )
        for key, value in {"count": 3, "memory": "4GiB", "compute": "50%", "driver": "xe"}.items()
    },
    "partitioning.file": ({}, FILED),
    "partitioning.layout": changed("partitioning.layout", "b", FILED),
    "partitioning.labels": changed("partitioning.labels", True, FILED),
    "page.enabled": ({}, {"page": {"enabled": False}}),
    "audit.retention": (
        {"audit": {"enabled": True}},
        {"audit": {"enabled": True, "retention": "7y"}},
    ),
    "monitoring.enabled": ({}, {"monitoring": {"enabled": True}}),
    "monitoring.system": changed("monitoring.system", "other", WATCHED),
    "monitoring.metrics": changed("monitoring.metrics", ["temperature"], WATCHED),
    "monitoring.alerts": ({"monitoring": {"enabled": True}}, WATCHED),
    "monitoring.dashboards": ({"monitoring": {"enabled": True}}, DRAWN),
    **{
        f"monitoring.alerts[].{key}": watched(alerts=[HOT | {key: value}])
        for key, value in {
            "name": "else",
            "condition": "power > 300W",
            "for": "5m",
            "severity": "critical",
        }.items()
    },
    **{
        f"monitoring.dashboards[].{key}": watched(dashboards=[BOARD | {key: value}])
        for key, value in {"name": "gpu_overview", "refresh": "1m"}.items()
    },
}
# Why these are in no object that could differ.
WITHOUT_EFFECT: Mapping[str, str] = {
    **{
        f"{section}.{key}": "accepted, no effect"
        for section in ("cuda", "oneapi")
        for key in ("features", "libraries", "runtime.cooperative_groups")
    },
    "oneapi.version": "accepted, no effect",
    **dict.fromkeys(PLACES, "no file sets it: flags and variables alone"),
}


class Settings(msgspec.Struct):
    """All plain values that an object leads to, by path; what changes by itself is left out."""

    values: dict[str, object] = msgspec.field(default_factory=dict)
    seen: dict[int, object] = msgspec.field(default_factory=dict)

    def walk(self, thing: object, path: str) -> None:
        if thing is None or isinstance(thing, str | int | float | bytes | Enum | PurePath):
            self.values[path] = thing
            return
        if id(thing) in self.seen:
            return
        self.seen[id(thing)] = thing  # kept, so that no other gets its id
        for name, inner in _inside(thing):
            self.walk(inner, f"{path}.{name}")


# State, counts and the file's own state: no settings.
NO_SETTINGS = (
    *(Latest, TracingHost, Counter, Histogram, Keeper, Standing, WatchReports, Follower),
    *(OnDemand, Reloader, Config, ModuleType, type),
)
# What was logged already, so that it is not logged again.
SAID = frozenset({"_told", "_tried", "_connected"})


def _inside(thing: object) -> Iterable[tuple[str, object]]:
    found: Iterable[tuple[str, object]] = ()
    if isinstance(thing, NO_SETTINGS):
        pass
    elif isinstance(thing, Mapping):
        found = [(f"[{key}]", value) for key, value in thing.items()]
    elif isinstance(thing, tuple | list):
        found = [(f"[{number}]", value) for number, value in enumerate(thing)]
    elif isinstance(thing, set | frozenset):
        found = [("set", repr(sorted(map(repr, thing))))]
    elif isinstance(thing, partial):
        found = [("of", thing.func), ("args", thing.args), ("keywords", thing.keywords)]
    elif isinstance(thing, MethodType):
        found = [("self", thing.__self__)]
    elif isinstance(thing, FunctionType):
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        found = [(name, cell.cell_contents) for name, cell in cells]
    else:
        found = _attributes(thing)
    return found


def _attributes(thing: object) -> Iterable[tuple[str, object]]:
    if not type(thing).__module__.startswith("deviceplugin."):
        return []
    slots = [name for kind in type(thing).__mro__ for name in _slots(kind)]
    names = [*slots, *vars(thing)] if hasattr(thing, "__dict__") else slots
    return [(n, getattr(thing, n)) for n in names if hasattr(thing, n) and n not in SAID]


def _slots(kind: type) -> Iterable[str]:
    slots = getattr(kind, "__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


class Node(msgspec.Struct):
    """Places for daemons, one after the other; `document` is the configuration file's content."""

    root: Path
    document: Document = msgspec.field(default_factory=dict)

    def load(self) -> tuple[Config, Sequence[VendorModule]]:
        path = self.root / "config.yaml"
        path.write_text(json.dumps({"metrics_address": "", "node_name": "node-1"} | self.document))
        places = ("host_root", "kubelet_dir", "cdi_dir", "state_dir")
        return load({"config": str(path)} | dict.fromkeys(places, str(self.root)))

    @asynccontextmanager
    async def daemon(self, document: Document) -> AsyncIterator["Running"]:
        self.document = document
        for folder in ("one", "other"):
            program = self.root / "opt" / folder / CONTROL
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        config, modules = self.load()
        configure_logs(config.log_level, config.log_format)
        asked = asyncio.Event()
        origin = Origin(config=config, load=self.load, describe=effective, asked=asked)
        config, vendors = await with_vendors(config, modules)
        clock = itertools.count()
        start = Start(
            config=config, vendors=vendors, now=lambda: next(clock), seed=1, origin=origin
        )
        daemon = assemble(start)
        running = Running(self, daemon, asked)
        task = asyncio.create_task(daemon.run())
        try:
            await running.looked()
            yield running
        finally:
            task.cancel()
            await asyncio.wait([task])
            structlog.reset_defaults()


class Running(msgspec.Struct):
    """A daemon that serves, and what it holds."""

    node: Node
    daemon: Daemon
    asked: asyncio.Event

    def part(self, kind: type[T]) -> T:
        return next(part for part in self.daemon.parts if isinstance(part, kind))

    async def looked(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.daemon.problem().startswith(("another", "first")):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def reload(self, document: Document) -> None:
        self.node.document = document
        reloader = self.part(Reloader)
        before = reloader.last
        self.asked.set()
        async with asyncio.timeout(WAIT_S):
            while reloader.last == before:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.005)
        assert reloader.last.successful

    def settings(self) -> Mapping[str, object]:
        found = Settings()
        for part in self.daemon.parts:
            found.walk(part, type(part).__name__)
        log = structlog.get_config()
        shape = (log["wrapper_class"].__name__, [type(p).__name__ for p in log["processors"]])
        return found.values | {"log": shape}


def test_every_key_of_the_schema_is_in_the_table() -> None:
    assert sorted(all_keys()) == sorted({*CHANGES, *WITHOUT_EFFECT})


@pytest.fixture(scope="module")
def by_themselves(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """What differs between two daemons of the same configuration."""

    async def twice() -> frozenset[str]:
        node, found = Node(tmp_path_factory.mktemp("n")), []
        for _ in range(2):
            async with node.daemon({}) as running:
                found.append(running.settings())
        return frozenset(differing(*found))

    return asyncio.run(twice())


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    """Without what is remembered of the log: it is written when all vendors have looked."""
    paths = {path for path in one.keys() | other.keys() if "._logged" not in path}
    return {path for path in paths if one.get(path, ABSENT) != other.get(path, ABSENT)}


@pytest.mark.parametrize("key", CHANGES)
async def test_a_key_takes_effect_at_once(
    key: str, short_dir: Path, by_themselves: frozenset[str]
) -> None:
    before, after = CHANGES[key]
    node = Node(short_dir)
    async with node.daemon(before) as running:
        old = running.settings()
        await running.reload(after)
        reloaded = running.settings()
    async with node.daemon(after) as running:
        new = running.settings()
    meant = differing(old, new) - by_themselves
    assert meant, f"{key} is in no object"
    stale = {path for path in meant if reloaded.get(path, ABSENT) != new.get(path, ABSENT)}
    assert stale == set()
