"""Who may ask for GPUs, and who may reach them without asking; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from deviceplugin.documents.told import ON, Telling, Time, Told, applied, seconds_of

_RENDERED = applied(
    "`deviceplugin render access` prints the RBAC rules and the admission policies that hold it"
)
_WATCHED = applied("containers that have GPUs open which they were not given are told")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
NAME = re.compile(_LABEL)
# `nvidia.com/gpu`, `nvidia.com/*`, or a DeviceClass such as `gpu.nvidia.com`.
RESOURCE = re.compile(rf"{_LABEL}(\.{_LABEL})+(/(\*|[A-Za-z0-9][-A-Za-z0-9_.]{{0,62}}))?")
SUBJECT = re.compile(rf"(user|group):[^\s]{{1,253}}|serviceaccount:{_LABEL}/{_LABEL}(\.{_LABEL})*")
# Roles that Kubernetes has by itself: one of these names would take their place.
_TAKEN = frozenset({"admin", "edit", "view", "cluster-admin"})
DEFAULT_ALLOWED = (
    "kube-system",
    "gpu-deviceplugin",
    "gpu-operator",
    "nvidia-gpu-operator",
    "nvidia-dra-driver-gpu",
    "kube-amd-gpu",
    "inteldeviceplugins-system",
    "*/*dcgm-exporter-*",
)
_ALLOWED = re.compile(r"[a-z0-9*]([-a-z0-9*]{0,62})(/[a-z0-9*][-a-z0-9.*]{0,252})?")
_LEAST_S, _MOST_S = 10, 86400


class Role(Told, frozen=True):
    """Who may do what: `resources` names what may be asked for (empty: every GPU), `namespaces`
    where (empty: everywhere), `subjects` who has the role."""

    OTHERS: ClassVar[Telling] = _RENDERED

    name: Annotated[
        str,
        Meta(
            pattern=rf"^{_LABEL}$",
            description="a name of lower-case letters, digits and dashes",
        ),
    ]
    permissions: tuple[Literal["create", "read", "update", "delete", "use"], ...] = ()
    resources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check names here, where msgspec still knows the key's path."""
        if self.name in _TAKEN:
            raise ValueError(f"name: another name than {self.name}, which is Kubernetes' own role")
        for key, pattern, text in (
            ("resources", RESOURCE, "names such as nvidia.com/gpu, nvidia.com/* or gpu.nvidia.com"),
            ("namespaces", NAME, "names of namespaces"),
            ("subjects", SUBJECT, "user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME"),
        ):
            if not all(pattern.fullmatch(one) for one in getattr(self, key)):
                raise ValueError(f"{key}: {text}")


class AccessControl(Told, frozen=True):
    """Access by roles."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType({"enabled": ON, "policy": _RENDERED})

    enabled: bool = True
    policy: Literal["rbac"] = "rbac"
    roles: tuple[Role, ...] = ()


class Bypass(Told, frozen=True):
    """Pods that reach GPUs which they were not given. `allowed` are namespaces, or
    `NAMESPACE/POD`, with `*` for any part."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": _WATCHED,
            "interval": _WATCHED,
            "allowed": applied(
                "pods that are not told, and namespaces that the policy of `deviceplugin render"
                " access` exempts"
            ),
        }
    )

    enabled: bool = True
    interval: Time = "1m"
    allowed: tuple[str, ...] = DEFAULT_ALLOWED

    def __post_init__(self) -> None:
        """Check the time and the names."""
        if not _LEAST_S <= self.interval_s <= _MOST_S:
            raise ValueError("interval: a time from 10s to 1d")
        if not all(_ALLOWED.fullmatch(one) for one in self.allowed):
            raise ValueError("allowed: names of namespaces, or NAMESPACE/POD; * is any part")

    @property
    def interval_s(self) -> float:
        """In seconds."""
        return seconds_of(self.interval)
