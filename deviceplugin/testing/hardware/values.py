"""What telemetry measures beside what a vendor's tool says at nearly the same moment; pure.

Our values are those of a round before the tool was asked and of one after it: what changes between
the two may be anything in between, and a tolerance more.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from msgspec import Struct

from deviceplugin.host.pci import parse_address
from deviceplugin.testing.hardware.verdict import Check, judged, not_available

# By PCI address of a GPU, then by the name of a quantity.
Values = Mapping[str, Mapping[str, float]]


class Quantity(Struct, frozen=True, kw_only=True):
    """A quantity that both measure: our series with the labels of which one is enough, how far
    apart they may be (absolute, and a part of the larger one), and how it is shown."""

    series: str
    labels: tuple[str, ...] = ("",)
    absolute: float
    part: float
    shown: str


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "temperature": Quantity(
            series="temperature_celsius",
            labels=('sensor="gpu"', 'sensor="hotspot"'),
            absolute=5,
            part=0,
            shown="{:.0f} °C",
        ),
        "power": Quantity(series="power_watts", absolute=15, part=0.1, shown="{:.0f} W"),
        "memory used": Quantity(
            series="memory_used_bytes", absolute=64 << 20, part=0.05, shown="{:.0f} bytes"
        ),
        "utilisation": Quantity(
            series="utilization_ratio",
            labels=('engine="compute"',),
            absolute=0.25,
            part=0,
            shown="{:.2f}",
        ),
    }
)
_SERIES = re.compile(r"deviceplugin_gpu_(\w+)\{([^}]*)\} (\S+)")
_PCI = re.compile(r'pci="([^"]+)"')
_NUMBER = re.compile(r"([0-9.]+) (C|W|MiB|%)")
_FACTORS = {"C": 1.0, "W": 1.0, "MiB": 1 << 20, "%": 0.01}
# Elements of `nvidia-smi -q -x`, the first that has a number: the power's name changed with R525
# and R550.
_NVIDIA: Mapping[str, Sequence[str]] = {
    "temperature": ("temperature/gpu_temp",),
    "power": (
        "gpu_power_readings/instant_power_draw",
        "gpu_power_readings/average_power_draw",
        "gpu_power_readings/power_draw",
        "power_readings/power_draw",
    ),
    "memory used": ("fb_memory_usage/used",),
    "utilisation": ("utilization/gpu_util",),
}
# Of `amd-smi metric --json`; MB there are MiB.
_AMD: Mapping[str, tuple[Sequence[tuple[str, str]], float]] = {
    "temperature": ((("temperature", "edge"), ("temperature", "hotspot")), 1.0),
    "power": ((("power", "socket_power"),), 1.0),
    "memory used": ((("mem_usage", "used_vram"),), 1 << 20),
    "utilisation": ((("usage", "gfx_activity"),), 0.01),
}
# Columns of `xpu-smi dump`.
XPU_METRICS = "0,1,3,18"
_XPU: Mapping[str, tuple[str, float]] = {
    "utilisation": ("GPU Utilization (%)", 0.01),
    "power": ("GPU Power (W)", 1.0),
    "temperature": ("GPU Core Temperature (Celsius Degree)", 1.0),
    "memory used": ("GPU Memory Used (MiB)", 1 << 20),
}


def of_page(text: str) -> Values:
    """What /metrics has of whole GPUs."""
    found: dict[str, dict[str, float]] = {}
    lines = [m for m in _SERIES.finditer(text) if 'partition=""' in m[2]]
    for name, quantity in QUANTITIES.items():
        for label in reversed(quantity.labels):  # the first one wins
            for match in lines:
                address = _PCI.search(match[2])
                if match[1] == quantity.series and label in match[2] and address:
                    found.setdefault(address[1], {})[name] = float(match[3])
    return found


def of_nvidia_smi(text: str) -> Values:
    """What `nvidia-smi -q -x` says; ValueError."""
    try:
        root = ET.fromstring(text)  # noqa: S314  # the driver's own tool
    except ET.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from error
    return {parse_address(gpu.get("id") or ""): dict(_nvidia(gpu)) for gpu in root.iter("gpu")}


def _nvidia(gpu: ET.Element) -> Iterator[tuple[str, float]]:
    for name, paths in _NVIDIA.items():
        texts = (_NUMBER.fullmatch(gpu.findtext(path) or "") for path in paths)
        match = next(filter(None, texts), None)
        if match is not None:
            yield name, float(match[1]) * _FACTORS[match[2]]


def of_amd_smi(metric: str, listed: str) -> Values:
    """What `amd-smi metric --json` says of the GPUs of `amd-smi list --json`; ValueError. Of the
    partitions of a GPU the first one counts."""
    addresses: dict[Any, str] = {}
    for row in _rows(listed, "gpu_data"):
        if not row.get("partition_id"):
            addresses[row.get("gpu")] = parse_address(str(row.get("bdf", "")))
    return {
        addresses[row["gpu"]]: dict(_amd(row))
        for row in _rows(metric, "gpu_data")
        if row.get("gpu") in addresses
    }


def _amd(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, (paths, factor) in _AMD.items():
        values = (_value(row, *path) for path in paths)
        value = next((v for v in values if v is not None), None)
        if value is not None:
            yield name, value * factor


def _value(row: Mapping[str, Any], *path: str) -> float | None:
    found: Any = row
    for key in (*path, "value"):
        found = found.get(key) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def xpu_devices(discovery: str) -> Mapping[str, str]:
    """PCI addresses by device id, of `xpu-smi discovery -j`; ValueError."""
    return {
        str(row.get("device_id")): parse_address(str(row.get("pci_bdf_address", "")))
        for row in _rows(discovery, "device_list")
        if row.get("device_function_type", "physical") == "physical"
    }


def of_xpu_smi(dump: str, devices: Mapping[str, str]) -> Values:
    """What `xpu-smi dump` says, a line for each device; ValueError."""
    rows = [[cell.strip() for cell in line.split(",")] for line in dump.splitlines() if line]
    if not rows or "DeviceId" not in rows[0]:
        raise ValueError("it has no line of names")
    head, found = rows[0], {}
    for row in rows[1:]:
        cells = dict(zip(head, row, strict=False))
        if cells.get("DeviceId") in devices:
            found[devices[cells["DeviceId"]]] = dict(_xpu(cells))
    return found


def _xpu(cells: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for name, (column, factor) in _XPU.items():
        try:
            yield name, float(cells.get(column, "")) * factor
        except ValueError:  # N/A
            continue


def _rows(text: str, key: str) -> Sequence[Mapping[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    rows = found.get(key, ()) if isinstance(found, dict) else found
    return [row for row in rows if isinstance(row, dict)]


def compared(tool: str, theirs: Values, before: Values, after: Values) -> Iterator[Check]:
    """A check for each quantity that the tool tells."""
    for name, quantity in QUANTITIES.items():
        title = f"{tool}: {name} measured"
        said = {address: one[name] for address, one in theirs.items() if name in one}
        ours = {
            a: [v[a][name] for v in (before, after) if name in v.get(a, ())] for a in sorted(said)
        }
        known = {address: values for address, values in ours.items() if values}
        if not known:
            yield not_available(title, "we do not measure it" if said else "it does not say it")
            continue
        problems = [
            f"{a}: we say {_shown(quantity, *sorted({*v}))}, it {_shown(quantity, said[a])}"
            for a, v in known.items()
            if not _near(quantity, v, said[a])
        ]
        pairs = [
            f"{_shown(quantity, v[-1])} beside {_shown(quantity, said[a])}"
            for a, v in known.items()
        ]
        yield judged(title, problems, ", ".join(pairs[:4]))


def _near(quantity: Quantity, ours: Sequence[float], theirs: float) -> bool:
    room = quantity.absolute + quantity.part * max(*ours, theirs)
    return min(ours) - room <= theirs <= max(ours) + room


def _shown(quantity: Quantity, *values: float) -> str:
    return " to ".join(quantity.shown.format(value) for value in values)
