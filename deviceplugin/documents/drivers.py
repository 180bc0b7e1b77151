"""The least driver for a version of a vendor's runtime; pure.

NVIDIA: "CUDA Toolkit and Corresponding Driver Versions" and "CUDA Toolkit and Minimum Required
Driver Version for CUDA Minor Version Compatibility" of the CUDA toolkit's release notes, Linux.
AMD: the versions of the packages amdgpu-dkms at repo.radeon.com (6.10.5.60300 is that of ROCm 6.3),
and which of them a ROCm runs on by the "User and kernel-space support matrix" of its documentation.
Where that names drivers older than those of ROCm 6.0, an older one is unknown and not too old.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

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
_MINOR = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
# The driver that it came with, and the oldest that it runs on.
_ROCM: Mapping[str, tuple[str, str | None]] = {
    "6.0": ("6.3.6", None),
    "6.1": ("6.7.0", None),
    "6.2": ("6.8.5", "6.3.6"),
    "6.3": ("6.10.5", "6.7.0"),
    "6.4": ("6.12.12", "6.7.0"),
}
VENDORS: Mapping[str, str] = {"cuda": "nvidia", "rocm": "amd"}
# `full`: as new as the runtime, `compatible`: older and enough, `old`: too old.
Level = Literal["full", "compatible", "old"]


class Need(Struct, frozen=True):
    """Whether a driver is new enough (None: unknown), and why in words."""

    level: Level | None
    text: str

    @property
    def met(self) -> bool | None:
        """The same as yes or no."""
        return None if self.level is None else self.level != "old"


def driver_need(section: str, version: str, driver: str | None) -> Need:
    """What the section `cuda` or `rocm` with this version needs of the driver that is there."""
    full, least = _table(section, ".".join(version.split(".")[:2]))
    if full is None:
        return Need(None, f"no least driver is known for {section} {version}")
    if driver is None or (there := _numbers(driver)) is None:
        return Need(None, f"the driver does not tell its version; {full} is needed")
    if there >= (_numbers(full) or ()):
        return Need("full", f"driver {driver}, {full} or newer is needed")
    if least is None:
        return Need(None, f"driver {driver} is older than {full}, which came with it")
    if there >= (_numbers(least) or ()):
        how = "minor version compatibility, without new features" if section == "cuda" else _MATRIX
        return Need("compatible", f"driver {driver} runs it by {how}; {full} has all of them")
    return Need("old", f"driver {driver}, {least} is the least and {full} has all features")


_MATRIX = "AMD's support matrix of drivers and releases"


def asked_versions(sections: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The runtimes whose version a configuration asks for, such as (`cuda`, `12.5`)."""
    for name in VENDORS:
        version = getattr(sections.get(name), "version", None)
        if version:
            yield name, str(version)


def _table(section: str, version: str) -> tuple[str | None, str | None]:
    if section == "cuda":
        return _CUDA.get(version), _MINOR.get(version.partition(".")[0])
    return _ROCM.get(version, (None, None))


def _numbers(text: str) -> tuple[int, ...] | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)+)", text)
    return tuple(map(int, match[1].split("."))) if match else None
