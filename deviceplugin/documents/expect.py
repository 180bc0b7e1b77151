"""Expectations of documents held against what a node has; pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from deviceplugin.documents import abilities, practices
from deviceplugin.documents.declared import declared
from deviceplugin.documents.drivers import VENDORS, driver_need
from deviceplugin.documents.outcome import LEVELS, Outcome, each
from deviceplugin.documents.products import Sheet, sheet_of
from deviceplugin.documents.walk import Entry

Report = Mapping[str, Any]
_SCALE = {"": 1e-9, "K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3, "P": 1e6}


def outcome(entry: Entry, report: Report) -> Outcome:
    """An expectation held against the report of `discover`."""
    try:
        return _hold(entry.key)(entry, report)
    except ValueError:  # what is wrong with the value is told of the document
        return Outcome(None, f"{entry.value} is not a value that can be held against anything")


def is_held(key: str) -> bool:
    """Whether something of a node is told for this key."""
    return _hold(key) is not _untold


def _hold(key: str) -> Callable[[Entry, Report], Outcome]:
    plain = re.sub(r"\[\d+\]", "[]", key)
    return next((hold for pattern, hold in _HOLDS if fnmatchcase(plain, pattern)), _untold)


def _untold(_: Entry, __: Report) -> Outcome:
    return Outcome(None, "nothing on the node tells it")


def _wholes(report: Report) -> list[Report]:
    return [device for device in report["devices"] if not device["parent"]]


def _quantity(text: str) -> float:
    match = re.match(r"([0-9.]+) ?([KMGTP]?)", text)
    return float(match[1]) * _SCALE[match[2]] if match else 0.0


def _bandwidth(entry: Entry, report: Report) -> Outcome:
    return _measured(report, abilities.bandwidth_of, _quantity(entry.value), "GB/s")


def _throughput(entry: Entry, report: Report) -> Outcome:
    found = lambda device: (sheet_of(device["product"]) or Sheet()).throughput  # noqa: E731
    return _measured(report, found, _quantity(entry.value) / 1e3, "TFLOPS")


def _measured(
    report: Report, find: Callable[[Report], float | None], least: float, unit: str
) -> Outcome:
    """Met where every GPU whose number is known has that much."""
    found = {d["product"] or d["id"]: find(d) for d in _wholes(report)}
    if not found:
        return Outcome(None, "no GPU was found")
    known = [number for number in found.values() if number is not None]
    told = (f"{k}: " + ("unknown" if n is None else f"{n:g} {unit}") for k, n in found.items())
    return Outcome(min(known) >= least if known else None, ", ".join(told))


def _capable(entry: Entry, report: Report) -> Outcome:
    return _satisfying(report, lambda d: abilities.has_capability(d, entry.value))


def _tensor(entry: Entry, report: Report) -> Outcome:
    if entry.value != "true":
        return Outcome(True, "nothing is asked")
    return _satisfying(report, abilities.has_matrix_units)


def _precision(entry: Entry, report: Report) -> Outcome:
    return _satisfying(report, lambda d: abilities.computes(d, entry.value))


def _memory(entry: Entry, report: Report) -> Outcome:
    return _satisfying(report, lambda d: abilities.has_memory(d, entry.value))


def _satisfying(report: Report, fits: Callable[[Report], bool | None]) -> Outcome:
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
    drivers = (v["driver_version"] for v in report["vendors"] if v["name"] == VENDORS[section])
    need = driver_need(section, entry.value, next(drivers, None))
    return Outcome(need.met, need.text)


def _isolation(entry: Entry, report: Report) -> Outcome:
    levels = {
        name: LEVELS.index(str(shared["isolation"])) >= LEVELS.index(entry.value)
        for name, shared in report["sharing"].items()
    }
    return each(levels, "no such resource is offered")


def _count(entry: Entry, report: Report) -> Outcome:
    there = len(_wholes(report))
    return Outcome(str(there) == entry.value, f"{there} GPUs")


def _type(entry: Entry, report: Report) -> Outcome:
    products = sorted({str(d["product"]) for d in _wholes(report) if d["product"]})
    wanted = set(re.findall(r"[a-z0-9]+", entry.value.lower())) - {"nvidia", "amd", "intel"}
    fits = [wanted <= set(re.findall(r"[a-z0-9]+", name.lower())) for name in products]
    return Outcome(all(fits) if fits else None, ", ".join(products) or "no product is told")


_HOLDS: Sequence[tuple[str, Callable[[Entry, Report], Outcome]]] = (
    ("*memory_bandwidth", _bandwidth),
    ("*compute_throughput", _throughput),
    ("workloads.*.compute_capability", _capable),
    ("workloads.*.gpu_memory", _memory),
    ("*.pool_size", _memory),
    ("*.prefetch_size", _memory),
    ("gpu_nodes*.memory_per_gpu", _memory),
    ("*instances*.compute_units", declared),
    ("*instances*.tensor_cores", declared),
    ("*instances*.rocm_cores", declared),
    ("*instances*.execution_units", declared),
    ("vgpu.profiles*.compute_units", declared),
    ("vgpu.profiles*.tensor_cores", declared),
    ("*.tensor_cores", _tensor),
    ("*.precision", _precision),
    ("cuda.version", _driver),
    ("rocm.version", _driver),
    ("gpu.isolation", _isolation),
    ("*gpu_count", _count),
    ("metadata.labels.gpu.count", _count),
    ("metadata.labels.gpu.memory", _memory),
    ("*gpu_type", _type),
    ("metadata.labels.gpu-type", _type),
    ("metadata.labels.accelerator", _type),
    *practices.HOLDS,
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
