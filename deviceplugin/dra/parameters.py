"""Opaque parameters of claims and classes, in the kinds of the vendors' own DRA drivers; pure.

They are decoded strictly: what a claim asks for and would not get is refused, not left out.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from deviceplugin.dra.claims import ClaimError, ClaimRef, Config, Result
from deviceplugin.dra.document import parse_quantity
from deviceplugin.model import Device

NVIDIA = "resource.nvidia.com/v1beta1"
AMD = "gpu.resource.amd.com/v1alpha1"
_WHERE = re.compile(r"(?P<what>.*?)( - at `(key in )?\$\.?(?P<path>[^`]*)`)?")
_MPS = "no MPS server is run for a claim: write TimeSlicing, or share by a rule with sharing: mps"
_INTERVAL = "time slices are not set by this driver: write Default"
_VFIO = "devices for virtual machines are not given to claims: leave the parameters out"


class _Kind(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Parameters of a kind; those of ours that have no keys ask for nothing."""

    api_version: str
    kind: str

    def problem(self) -> tuple[str, str] | None:
        """The key that is understood and cannot be kept, and what to write instead."""
        return None


class TimeSlicing(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a container has a GPU before the next."""

    interval: Literal["Default", "Short", "Medium", "Long"] = "Default"


class Mps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Limits of NVIDIA's MPS."""

    default_active_thread_percentage: Annotated[int, Meta(ge=1, le=100)] | None = None
    default_pinned_device_memory_limit: str | None = None
    default_per_device_pinned_memory_limit: Mapping[str, str] = {}
    multi_user: bool | None = None

    def __post_init__(self) -> None:
        """Check the quantities."""
        limits = self.default_per_device_pinned_memory_limit.values()
        for text in (self.default_pinned_device_memory_limit, *limits):
            if text is not None and not parse_quantity(text):
                raise ValueError(f"{text!r} is no quantity such as 4Gi")


class Sharing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How containers share a GPU."""

    strategy: Literal["TimeSlicing", "MPS"]
    time_slicing_config: TimeSlicing | None = None
    mps_config: Mps | None = None

    def __post_init__(self) -> None:
        """Settings of the other strategy would be left out."""
        if self.strategy == "MPS" and self.time_slicing_config is not None:
            raise ValueError("timeSlicingConfig is for the strategy TimeSlicing: leave it out")
        if self.strategy == "TimeSlicing" and self.mps_config is not None:
            raise ValueError("mpsConfig is for the strategy MPS: leave it out")


class GpuConfig(_Kind, frozen=True, kw_only=True):
    """Of whole NVIDIA GPUs."""

    sharing: Sharing | None = None

    def problem(self) -> tuple[str, str] | None:
        """Only what a GPU does by itself can be kept."""
        return None if self.sharing is None else _sharing_problem(self.sharing)


class MigSharing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How containers share a MIG instance."""

    strategy: Literal["TimeSlicing", "MPS"]
    mps_config: Mps | None = None


class MigDeviceConfig(_Kind, frozen=True, kw_only=True):
    """Of MIG instances."""

    sharing: MigSharing | None = None

    def problem(self) -> tuple[str, str] | None:
        """As of a GPU."""
        if self.sharing is None:
            return None
        return _sharing_problem(Sharing(strategy=self.sharing.strategy))


class Iommu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Of the host."""

    backend_policy: Literal["LegacyOnly", "PreferIommuFD"] | None = None
    enable_api_device: bool | None = msgspec.field(name="enableAPIDevice", default=None)


class VfioDeviceConfig(_Kind, frozen=True, kw_only=True):
    """Of GPUs for virtual machines."""

    iommu: Iommu | None = None

    def problem(self) -> tuple[str, str] | None:
        """None is given."""
        return "kind", _VFIO


class AmdGpuConfig(_Kind, frozen=True, kw_only=True):
    """It has no keys."""


# Each kind with the devices that it is for: wholes, or parts of them.
_KINDS: Mapping[tuple[str, str], tuple[type[_Kind], frozenset[tuple[str, bool]]]] = {
    (NVIDIA, "GpuConfig"): (GpuConfig, frozenset({("nvidia", False)})),
    (NVIDIA, "MigDeviceConfig"): (MigDeviceConfig, frozenset({("nvidia", True)})),
    (NVIDIA, "VfioDeviceConfig"): (VfioDeviceConfig, frozenset({("nvidia", False)})),
    (AMD, "GpuConfig"): (AmdGpuConfig, frozenset({("amd", False), ("amd", True)})),
    (AMD, "VfioDeviceConfig"): (VfioDeviceConfig, frozenset({("amd", False)})),
}


def check_parameters(
    ref: ClaimRef, configs: Iterable[Config], given: Iterable[tuple[Result, Device]]
) -> None:
    """Raise ClaimError for parameters that are none, or that cannot be kept for a device that the
    claim is given: of those for its request the last ones count, a claim's after its class's."""
    decoded = [(config, *_decoded(ref, config)) for config in configs]
    decoded.sort(key=lambda one: one[0].of_claim)
    for result, device in given:
        last = None
        for config, kind, devices in decoded:
            if config.covers(result.request):
                if (device.vendor, device.parent is not None) in devices:
                    last = config, kind
                elif config.requests:
                    text = f"{kind.kind} is not for device {result.device} of request"
                    raise _refused(ref, f"{config.place}.kind", f"{text} {result.request}")
        problem = last[1].problem() if last else None
        if last and problem:
            key, text = problem
            raise _refused(ref, f"{last[0].place}.{key}", text)


def _sharing_problem(sharing: Sharing) -> tuple[str, str] | None:
    if sharing.strategy == "MPS":
        return "sharing.strategy: 'MPS'", _MPS
    slicing = sharing.time_slicing_config
    if slicing is not None and slicing.interval != "Default":
        return f"sharing.timeSlicingConfig.interval: {slicing.interval!r}", _INTERVAL
    return None


def _decoded(ref: ClaimRef, config: Config) -> tuple[_Kind, frozenset[tuple[str, bool]]]:
    names = tuple(str(config.parameters.get(key, ""))[:63] for key in ("apiVersion", "kind"))
    found = _KINDS.get((names[0], names[1]))
    if found is None:
        known = ", ".join(sorted(f"{version} {kind}" for version, kind in _KINDS))
        text = f"{' '.join(names).strip() or 'nothing'!r} is not known: one of {known}"
        raise _refused(ref, f"{config.place}.kind", text)
    try:
        return msgspec.convert(config.parameters, found[0]), found[1]
    except msgspec.ValidationError as error:
        raise _refused(ref, *_problem(config, str(error))) from error


def _problem(config: Config, text: str) -> tuple[str, str]:
    """The key of a message of msgspec's, and what is wrong with its value."""
    match = _WHERE.fullmatch(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    key = ".".join(filter(None, (config.place, path)))
    value: Any = config.parameters
    for step in filter(None, re.split(r"[.\[\]]+", path)):
        value = value.get(step) if isinstance(value, dict) else None
    shown = f"{value!r:.40}: " if isinstance(value, str | int | float) else ""
    return key, f"{shown}{what[:1].lower()}{what[1:]}"


def _refused(ref: ClaimRef, key: str, text: str) -> ClaimError:
    return ClaimError(f"claim {ref.text}: {key}: {text}")
