"""Others that partition the GPUs of this node: two of them would undo each other's work.

Looked for by their programs in the host's /proc (comm has the first 15 characters of a name).
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from deviceplugin.errors import VendorError
from deviceplugin.host import Host

OWNERS: Mapping[str, str] = MappingProxyType(
    {
        "nvidia-mig-manager": "NVIDIA's MIG manager",
        "nvidia-mig-parted": "NVIDIA's mig-parted",
        "gpu-kubelet-plugin": "NVIDIA's DRA driver",
        "device-config-manager": "AMD's Device Config Manager",
        "gpu-kubeletplugin": "AMD's DRA driver",
    }
)
_COMM = 15


def read_owners(host: Host) -> tuple[str, ...]:
    """Those that run here, with their process."""
    return tuple(_owners(host))


def _owners(host: Host) -> Iterator[str]:
    names = {program[:_COMM]: title for program, title in OWNERS.items()}
    for process in host.read_names("/proc"):
        if not process.isdecimal():
            continue
        try:
            comm = host.read_line(f"/proc/{process}/comm") or ""
        except VendorError:  # it has ended meanwhile
            continue
        if comm in names:
            yield f"{names[comm]} (process {process})"
