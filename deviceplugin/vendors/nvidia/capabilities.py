"""The nodes that open a MIG instance, made where nobody has and taken away with it; for
`deviceplugin provision` alone.

The driver says below /proc/driver/nvidia/capabilities what each node must be, and whether programs
may make it: DeviceFileModify, by which nvidia-modprobe goes as well. Without such files, or where
they say no, the nodes are somebody else's.
"""

from collections.abc import Iterator
from typing import Protocol

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.device_nodes import Node
from deviceplugin.host.numbers import parse_decimal

CAPABILITIES = "/proc/driver/nvidia/capabilities"
FOLDER = "/dev/nvidia-caps"
_DEVICES = "/proc/devices"
_MAJOR = "nvidia-caps"
_MAX_MINOR, _MAX_MODE = (1 << 20) - 1, 0o777


class Nodes(Protocol):
    """Device nodes of the host."""

    def read(self, path: str) -> Node | None:
        """The node, None where nothing is or something else; raises OSError."""

    def make(self, path: str, node: Node) -> None:
        """Raises OSError."""

    def remove(self, path: str) -> None:
        """Raises OSError."""


class CapabilityNodes:
    """Of all instances of the node. What cannot be made is left to others and not tried again: the
    daemon tells of an instance without nodes."""

    def __init__(self, host: Host, dev_root: str, nodes: Nodes) -> None:
        self._host, self._nodes = host, nodes
        self._folder = f"{dev_root.rstrip('/')}{FOLDER}"
        self._refused = False

    def are_there(self, gpu: int | None, instance: int) -> bool:
        """Whether an instance has its nodes, as far as they can be made here; `gpu` is the GPU's
        device minor where the driver tells it, `instance` NVML's number of the GPU instance."""
        try:
            return self._refused or not list(self._missing(gpu, instance))
        except OSError:
            return True

    def make(self, gpu: int | None, instance: int) -> None:
        """Make those that are missing, and again what another driver has left behind."""
        try:
            for path, wanted in list(self._missing(gpu, instance)):
                if self._nodes.read(path) is not None:
                    self._nodes.remove(path)
                self._nodes.make(path, wanted)
        except OSError:
            self._refused = True

    def remove(self, gpu: int | None, instance: int) -> None:
        """Take away those that the driver would have us make."""
        try:
            for path, wanted in self._wanted(gpu, instance):
                if self._nodes.read(path) == wanted:
                    self._nodes.remove(path)
        except OSError:
            self._refused = True

    def _missing(self, gpu: int | None, instance: int) -> Iterator[tuple[str, Node]]:
        for path, wanted in self._wanted(gpu, instance):
            found = self._nodes.read(path)
            if found != wanted and (found is not None or not self._host.exists(path)):
                yield path, wanted

    def _wanted(self, gpu: int | None, instance: int) -> Iterator[tuple[str, Node]]:
        """What programs are to make, of the GPU instance and of each compute instance in it."""
        try:
            major = _major_of(self._host.read_text(_DEVICES) or "")
            if major is None or gpu is None:
                return
            folder = f"{CAPABILITIES}/gpu{gpu}/mig/gi{instance}"
            inner = [one for one in self._host.read_names(folder) if one.startswith("ci")]
            for name in ("access", *(f"{one}/access" for one in sorted(inner))):
                node = parse_capability(self._host.read_text(f"{folder}/{name}") or "", major)
                if node is not None:
                    yield f"{self._folder}/nvidia-cap{node.minor}", node
        except DiscoveryError:
            return


def parse_capability(text: str, major: int) -> Node | None:
    """`DeviceFileMinor: 30`, `DeviceFileMode: 292`, `DeviceFileModify: 1` as a node; None where
    programs must not make it, or where a number is missing."""
    pairs = (line.partition(":") for line in text.splitlines())
    found = {key.strip(): parse_decimal(value.strip()) for key, _, value in pairs}
    minor, mode = found.get("DeviceFileMinor"), found.get("DeviceFileMode")
    if minor is None or mode is None or not found.get("DeviceFileModify"):
        return None
    if minor > _MAX_MINOR or mode > _MAX_MODE:
        return None
    return Node(major=major, minor=minor, mode=mode)


def _major_of(devices: str) -> int | None:
    pairs = (line.split() for line in devices.partition("Block devices")[0].splitlines())
    return next((parse_decimal(pair[0]) for pair in pairs if pair[1:] == [_MAJOR]), None)
