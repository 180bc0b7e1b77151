"""Container edits put together; pure."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from deviceplugin.model import ContainerEdits, DeviceNode, Mount, frozen

T = TypeVar("T")


def merge_edits(parts: Iterable[ContainerEdits]) -> ContainerEdits:
    """One set of edits from several: the first of two equal paths stays, the last value of a
    variable wins."""
    parts = tuple(parts)
    return ContainerEdits(
        env=frozen({k: v for part in parts for k, v in part.env.items()}),
        device_nodes=_once((n for part in parts for n in part.device_nodes), _node_path),
        mounts=_once((m for part in parts for m in part.mounts), _mount_path),
        hooks=tuple(hook for part in parts for hook in part.hooks),
        annotations=frozen({k: v for part in parts for k, v in part.annotations.items()}),
        cdi_devices=tuple(dict.fromkeys(c for part in parts for c in part.cdi_devices)),
    )


def _once(items: Iterable[T], key: Callable[[T], str]) -> tuple[T, ...]:
    first: dict[str, T] = {}
    for item in items:
        first.setdefault(key(item), item)
    return tuple(first.values())


def _node_path(node: DeviceNode) -> str:
    return node.path


def _mount_path(mount: Mount) -> str:
    return mount.path
