"""The least driver for a version of a vendor's runtime; pure.

NVIDIA: "CUDA Toolkit and Corresponding Driver Versions" and "CUDA Toolkit and Minimum Required
Driver Version for CUDA Minor Version Compatibility" of the CUDA toolkit's release notes, Linux.
AMD: the amdgpu driver that each release of ROCm comes with (its release notes); user space works
with drivers of up to two minor releases before, so an older one is told and not unmet.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

_CUDA: Mapping[str, str] = {
    "11.8": "520.61.05",
    "12.0": "525.60.13",
    "12.1": "530.30.02",
    "12.2": "535.54.03",
    "12.3": "545.23.06",
    "12.4": "550.54.14",
    "12.5": "555.42.02",
    "12.6": "560.28.03",
    "12.8": "570.26",
    "12.9": "575.51.03",
    "13.0": "580.65.06",
}
_COMPATIBLE = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
_ROCM: Mapping[str, str] = {
    "6.0": "6.3.6",
    "6.1": "6.7.0",
    "6.2": "6.8.5",
    "6.3": "6.10.5",
    "6.4": "6.12.12",
}


class Need(Struct, frozen=True):
    """Whether a driver is new enough (None: unknown), and why in words."""

    met: bool | None
    text: str


def driver_need(section: str, version: str, driver: str | None) -> Need:
    """What the section `cuda` or `rocm` with this version needs of the driver that is there."""
    least = (_CUDA if section == "cuda" else _ROCM).get(".".join(version.split(".")[:2]))
    if least is None:
        return Need(None, f"no least driver is known for {section} {version}")
    if driver is None or (there := _numbers(driver)) is None:
        return Need(None, f"the driver does not tell its version; {least} is needed")
    if there >= (_numbers(least) or ()):
        return Need(True, f"driver {driver}, {least} or newer is needed")
    if section == "rocm":
        return Need(None, f"driver {driver} is older than {least}, which came with it")
    family = _COMPATIBLE[version.partition(".")[0]]
    if there >= (_numbers(family) or ()):
        text = f"driver {driver} runs it by minor version compatibility, without new features"
        return Need(True, f"{text}; {least} has all of them")
    return Need(False, f"driver {driver}, {family} is the least and {least} has all features")


def _numbers(text: str) -> tuple[int, ...] | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)+)", text)
    return tuple(map(int, match[1].split("."))) if match else None
