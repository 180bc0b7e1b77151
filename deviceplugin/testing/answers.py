"""Merging the Allocate answers of several resources of one container. Pure."""

from collections.abc import Iterable
from typing import TypeVar

from msgspec import Struct, field

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi

T = TypeVar("T")


class Merged(Struct, kw_only=True):
    """What the container gets. Of two values for one key the first stays, with a conflict."""

    envs: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    devices: dict[str, pluginapi.DeviceSpec] = field(default_factory=dict)
    mounts: dict[str, pluginapi.Mount] = field(default_factory=dict)
    cdi_devices: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def merge_answers(answers: Iterable[pluginapi.ContainerAllocateResponse]) -> Merged:
    """Merge in the given order; the kubelet's own order between resources is random."""
    merged = Merged()
    for answer in answers:
        clash = merged.conflicts
        clash += _keep_first(merged.envs, dict(answer.envs), "env")
        clash += _keep_first(merged.annotations, dict(answer.annotations), "annotation")
        clash += _keep_first(
            merged.devices, {spec.container_path: spec for spec in answer.devices}, "device"
        )
        clash += _keep_first(
            merged.mounts, {mount.container_path: mount for mount in answer.mounts}, "mount"
        )
        names = dict.fromkeys([*merged.cdi_devices, *(cdi.name for cdi in answer.cdi_devices)])
        merged.cdi_devices = list(names)
    return merged


def _keep_first(kept: dict[str, T], more: dict[str, T], kind: str) -> list[str]:
    return [f"{kind} {key}" for key, value in more.items() if kept.setdefault(key, value) != value]
