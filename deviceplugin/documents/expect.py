"""Expectations of documents held against what a node has; pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from deviceplugin.documents.drivers import driver_need
from deviceplugin.documents.products import Sheet, sheet_of
from deviceplugin.documents.walk import Entry
from deviceplugin.schema import parse_bytes

Report = Mapping[str, Any]
_LEVELS = ("none", "memory", "process", "hardware")
_SCALE = {"": 1e-9, "K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3, "P": 1e6}
_TOLERANCE = 0.95  # a GPU tells a little less memory than its name says
_PATTERNS = {
    "mig": "nvidia.com/mig-*",
    "vgpu": "nvidia.com/*",
    "mxgpu": "amd.com/mxgpu-*",
    "intel_xe": "intel.com/xe-*",
    "gpu": "*",
}
_VENDORS = {"cuda": "nvidia", "rocm": "amd"}


class Outcome(Struct, frozen=True):
    """Whether an expectation is met (None: nothing tells), and what was measured."""

    met: bool | None
    measured: str


def outcome(entry: Entry, report: Report) -> Outcome:
    """An expectation held against the report of `discover`."""
    key = re.sub(r"\[\d+\]", "[]", entry.key)
    for pattern, hold in _HOLDS:
        if fnmatchcase(key, pattern):
            return hold(entry, report)
    return Outcome(None, "nothing on the node tells it")


def _wholes(report: Report) -> list[Report]:
    return [device for device in report["devices"] if not device["parent"]]


def _each(met: Mapping[str, bool | None], none: str) -> Outcome:
    """Met where every GPU that tells meets it."""
    if not met:
        return Outcome(None, none)
    counts = ", ".join(f"{name}: {_word(one)}" for name, one in met.items())
    known = [one for one in met.values() if one is not None]
    return Outcome(all(known) if known else None, counts)


def _word(met: bool | None) -> str:
    return "unknown" if met is None else "yes" if met else "no"


def _sheets(report: Report, wanted: Callable[[Sheet], bool]) -> Outcome:
    found: dict[str, bool | None] = {}
    for device in _wholes(report):
        sheet = sheet_of(device["product"])
        found[device["product"] or device["id"]] = None if sheet is None else wanted(sheet)
    return _each(found, "no GPU was found")


def _quantity(text: str) -> float:
    match = re.match(r"([0-9.]+) ?([KMGTP]?)", text)
    return float(match[1]) * _SCALE[match[2]] if match else 0.0


def _bandwidth(entry: Entry, report: Report) -> Outcome:
    return _sheets(report, lambda sheet: sheet.bandwidth >= _quantity(entry.value))


def _throughput(entry: Entry, report: Report) -> Outcome:
    wanted = _quantity(entry.value) / 1e3
    return _sheets(report, lambda sheet: sheet.throughput >= wanted)


def _capability(device: Report) -> tuple[int, ...] | None:
    text = str(device["attributes"].get("compute_capability") or "")
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+\.\d+", text) else None


def _capable(entry: Entry, report: Report) -> Outcome:
    least = tuple(map(int, entry.value.rstrip("+").split(".")))
    return _satisfying(report, lambda d: (have := _capability(d)) and have >= least)


def _tensor(entry: Entry, report: Report) -> Outcome:
    if entry.value != "true":
        return Outcome(True, "nothing is asked")
    return _satisfying(report, lambda d: (have := _capability(d)) and have >= (7, 0))


def _precision(entry: Entry, report: Report) -> Outcome:
    least = {"FP8": (8, 9), "BF16": (8, 0), "TF32": (8, 0), "INT8": (6, 1), "FP16": (5, 3)}
    wanted = least.get(entry.value)
    if wanted is None:
        return Outcome(None, "no GPU tells whether it computes with it")
    return _satisfying(report, lambda d: (have := _capability(d)) and have >= wanted)


def _memory(entry: Entry, report: Report) -> Outcome:
    wanted = parse_bytes(entry.value) * _TOLERANCE
    return _satisfying(
        report, lambda d: None if d["memory_bytes"] is None else d["memory_bytes"] >= wanted
    )


def _satisfying(report: Report, fits: Callable[[Report], object]) -> Outcome:
    """Which resources have a device that fits: one is enough, a pod asks for it by name."""
    devices = [device for device in report["devices"] if device["resource"]]
    judged = [(device["resource"], fits(device)) for device in devices]
    good = sorted({name for name, one in judged if one})
    if good:
        return Outcome(True, ", ".join(good))
    told = [one for _, one in judged if one is not None]
    return Outcome(False if told else None, "no resource" if told else "no device tells it")


def _driver(entry: Entry, report: Report) -> Outcome:
    section = entry.key.partition(".")[0]
    drivers = (v["driver_version"] for v in report["vendors"] if v["name"] == _VENDORS[section])
    need = driver_need(section, entry.value, next(drivers, None))
    return Outcome(need.met, need.text)


def _isolation(entry: Entry, report: Report) -> Outcome:
    pattern = _PATTERNS[entry.key.partition(".")[0]]
    levels = {
        name: _LEVELS.index(str(shared["isolation"])) >= _LEVELS.index(entry.value)
        for name, shared in report["sharing"].items()
        if fnmatchcase(name, pattern)
    }
    return _each(levels, "no such resource is offered")


def _count(entry: Entry, report: Report) -> Outcome:
    there = len(_wholes(report))
    return Outcome(str(there) == entry.value, f"{there} GPUs")


def _type(entry: Entry, report: Report) -> Outcome:
    products = sorted({str(d["product"]) for d in _wholes(report) if d["product"]})
    wanted = set(re.findall(r"[a-z0-9]+", entry.value.lower())) - {"nvidia", "amd", "intel"}
    fits = [wanted <= set(re.findall(r"[a-z0-9]+", name.lower())) for name in products]
    return Outcome(all(fits) if fits else None, ", ".join(products) or "no product is told")


def _endpoint(entry: Entry, report: Report) -> Outcome:
    address = report.get("metrics_address")
    if address is None:
        return Outcome(None, "the configuration is not valid")
    return Outcome(bool(address), str(address) or "metrics_address is empty")


def _rdma(entry: Entry, report: Report) -> Outcome:
    found = report.get("rdma", ())
    return Outcome(bool(found), ", ".join(found) or "no RDMA device")


def _peer_memory(entry: Entry, report: Report) -> Outcome:
    if report.get("peer_memory"):
        return Outcome(True, "nvidia_peermem is loaded")
    return Outcome(None, "nvidia_peermem is not loaded; by dma-buf it works without")


def _mechanisms(entry: Entry, report: Report) -> Outcome:
    levels = {
        name: _LEVELS.index(str(shared["isolation"])) >= _LEVELS.index("memory")
        for name, shared in report["sharing"].items()
    }
    return _each(levels, "no resource is offered")


def _units(entry: Entry, report: Report) -> Outcome:
    instances = [device for device in report["devices"] if device["profile"]]
    faults = [f["reason"] for device in instances for f in device["faults"] if f["code"] == _UNITS]
    if not instances:
        return Outcome(None, "there is no MIG instance")
    return Outcome(not faults, faults[0] if faults else "no instance has another number")


_UNITS = "declared_compute_units"
_HOLDS: Sequence[tuple[str, Callable[[Entry, Report], Outcome]]] = (
    ("*memory_bandwidth", _bandwidth),
    ("*compute_throughput", _throughput),
    ("workloads.*.compute_capability", _capable),
    ("workloads.*.gpu_memory", _memory),
    ("*.pool_size", _memory),
    ("gpu_nodes*.memory_per_gpu", _memory),
    ("*.tensor_cores", _tensor),
    ("*.precision", _precision),
    ("cuda.version", _driver),
    ("rocm.version", _driver),
    ("gpu.isolation", _isolation),
    ("*gpu_count", _count),
    ("gpu.monitoring", _endpoint),
    ("monitoring.enabled", _endpoint),
    ("deployment.health_checks", _endpoint),
    ("*.rdma_enabled", _rdma),
    ("*.gpu_direct", _peer_memory),
    ("security.isolation.mechanisms", _mechanisms),
    ("mig.instances*.compute_units", _units),
    ("metadata.labels.gpu.count", _count),
    ("metadata.labels.gpu.memory", _memory),
    ("*gpu_type", _type),
    ("metadata.labels.gpu-type", _type),
    ("metadata.labels.accelerator", _type),
)


def of_other_nodes(
    entries: Sequence[Entry], content: Mapping[str, Any], node: str
) -> Iterator[Entry]:
    """The entries without those of lists of nodes that are about another one."""
    lists = {"gpu_nodes": content.get("gpu_nodes")}
    edge = content.get("gpu")
    lists["gpu.edge_nodes"] = edge.get("edge_nodes") if isinstance(edge, Mapping) else None
    for entry in entries:
        match = re.match(r"(gpu_nodes|gpu\.edge_nodes)\[(\d+)\]", entry.key)
        items = lists.get(match[1]) if match else None
        if match and items and items[int(match[2])].get("name") != node:
            yield entry
