"""NVIDIA GPUs and MIG instances through NVML: the vendor module of the entry point `nvidia`."""

from collections.abc import Mapping
from typing import cast

import msgspec

from deviceplugin.host import Host
from deviceplugin.vendor import Sections
from deviceplugin.vendors.nvidia.library import OpenNvml, open_nvml
from deviceplugin.vendors.nvidia.session import NvmlSession, Session
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection, VgpuSection
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor

NAME = "nvidia"
SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "nvidia": NvidiaSection,
    "mig": MigSection,
    "vgpu": VgpuSection,
}


def create(host: Host, sections: Sections, open_library: OpenNvml = open_nvml) -> NvidiaVendor:
    """The vendor for `host`; loads no library before it is asked to discover.

    `open_library` is the seam for a simulated NVML in this process.
    """
    settings = cast("NvidiaSection", sections["nvidia"])
    mig = cast("MigSection", sections["mig"])
    vgpu = cast("VgpuSection", sections.get("vgpu") or VgpuSection())
    session = _session(host, settings, open_library)
    return NvidiaVendor(host, settings, mig, session, vgpu)


def _session(host: Host, settings: NvidiaSection, open_library: OpenNvml) -> Session:
    if not settings.library_process:
        return NvmlSession(host, settings.driver_root, open_library)
    from deviceplugin.vendors.nvidia.child.session import ProcessSession  # noqa: PLC0415  # where asked for

    return ProcessSession(host, settings.driver_root)
