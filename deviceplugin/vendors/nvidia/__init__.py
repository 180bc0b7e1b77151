"""NVIDIA GPUs and MIG instances through NVML: the vendor module of the entry point `nvidia`."""

from collections.abc import Mapping
from typing import cast

import msgspec

from deviceplugin.host import Host
from deviceplugin.vendor import Sections
from deviceplugin.vendors.nvidia.library import open_nvml
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection, VgpuSection
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor, OpenNvml

NAME = "nvidia"
SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "nvidia": NvidiaSection,
    "mig": MigSection,
    "vgpu": VgpuSection,
}


def create(host: Host, sections: Sections, open_library: OpenNvml = open_nvml) -> NvidiaVendor:
    """The vendor for `host`; loads no library before it is asked to discover."""
    settings = cast("NvidiaSection", sections["nvidia"])
    mig = cast("MigSection", sections["mig"])
    vgpu = cast("VgpuSection", sections.get("vgpu") or VgpuSection())
    return NvidiaVendor(host, settings, mig, open_library, vgpu)
