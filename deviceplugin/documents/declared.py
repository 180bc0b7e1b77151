"""Units that the entry of a partition names, held against what the hardware has; pure.

An instance of MIG has its multiprocessors for itself: as many as named, no more. Virtual functions
and vGPUs have all units of their GPU by turns, so they have at least as many as named, or not.
"""

from collections.abc import Callable, Mapping
from typing import Any

from deviceplugin.documents import abilities
from deviceplugin.documents.outcome import Outcome
from deviceplugin.documents.walk import Entry
from deviceplugin.schema import parse_bytes

Report = Mapping[str, Any]
_DOMAINS = {"mig": "nvidia.com", "mxgpu": "amd.com", "intel_xe": "intel.com"}
_WORDS: Mapping[tuple[str, str], str] = {
    ("mig", "compute_units"): "multiprocessors",
    ("mxgpu", "compute_units"): "compute units",
    ("intel_xe", "compute_units"): "Xe-cores",
    ("vgpu", "compute_units"): "multiprocessors",
    ("mig", "tensor_cores"): "tensor cores",
    ("vgpu", "tensor_cores"): "tensor cores",
    ("mxgpu", "rocm_cores"): "SIMD units",
    ("intel_xe", "execution_units"): "vector engines",
}
_NEAR = 0.05  # of a memory: a driver shows a little less than the profile's name says


def declared(entry: Entry, report: Report) -> Outcome:
    """The number of an entry of `instances` or `profiles` against its devices."""
    section, key = entry.key.partition(".")[0], entry.key.rpartition(".")[2]
    devices = [d for d in report["devices"] if _is_meant(section, entry.beside, d)]
    if not devices:
        return Outcome(None, "no device of it is there")
    find: Callable[[Report], int | None]
    find = abilities.units_of if key == "compute_units" else abilities.engines_of
    word = _WORDS[section, key]
    found = sorted({n for device in devices if (n := find(device)) is not None})
    if not found:
        return Outcome(None, f"nothing tells its {word}")
    measured = f"{', '.join(map(str, found))} {word}"
    if section == "mig":
        exact = key == "compute_units"
        met = found == [int(entry.value)] if exact else found[0] >= int(entry.value)
        return Outcome(met, measured)
    return Outcome(found[0] >= int(entry.value), f"{measured}, by turns with the GPU's others")


def _is_meant(section: str, beside: Mapping[str, Any], device: Report) -> bool:
    if section != "vgpu":
        name = f"{_DOMAINS[section]}/{beside.get('name')}"
        return device["resource"] in (name, f"{name}-vfio")
    if device["resource"] != "nvidia.com/vgpu" or not device["memory_bytes"]:
        return False
    wanted = parse_bytes(str(beside.get("memory")))
    return bool(abs(device["memory_bytes"] - wanted) <= wanted * _NEAR)
