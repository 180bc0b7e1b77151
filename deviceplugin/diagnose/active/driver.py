"""Where the CUDA driver is: in this machine's own folders, or below the host's root; blocking."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from deviceplugin.diagnose.active.cuda import SONAME
from deviceplugin.host import Host

# Distributions, driver containers, NixOS, and the folder of Google's COS and NVIDIA's runtime.
_FOLDERS = (
    *("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"),
    *("/usr/local/nvidia/lib64", "/run/opengl-driver/lib"),
    *("/run/nvidia/driver/usr/lib/x86_64-linux-gnu", "/run/nvidia/driver/usr/lib64"),
)


def find_driver(host: Host, environment: Mapping[str, str] = os.environ) -> str | None:
    """The file of the library, None where there is none."""
    return next(_found(host, environment), None)


def _found(host: Host, environment: Mapping[str, str]) -> Iterator[str]:
    named = filter(None, environment.get("LD_LIBRARY_PATH", "").split(":"))
    for folder in (*named, *_FOLDERS):
        own = Path(folder) / SONAME
        if own.is_file():
            yield str(own)
    for folder in _FOLDERS:
        path = f"{folder}/{SONAME}"
        if host.exists(path) and host.untrusted(path) is None:
            yield host.path(path)


def variables_for(library: str, device: str) -> Mapping[str, str]:
    """What makes the driver find its other libraries, and show no other GPU."""
    folder, known = str(Path(library).parent), os.environ.get("LD_LIBRARY_PATH", "")
    only = {"CUDA_VISIBLE_DEVICES": device} if device.startswith("GPU-") else {}
    paths = ":".join(dict.fromkeys(filter(None, (folder, *known.split(":")))))
    return {"LD_LIBRARY_PATH": paths, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **only}
