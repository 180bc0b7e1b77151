"""NVIDIA GPUs and MIG instances through NVML: the vendor module of the entry point `nvidia`."""

from collections.abc import Mapping
from functools import partial

import msgspec

from deviceplugin.host import Host
from deviceplugin.host.runtimes import read_cdi_support
from deviceplugin.model import FaultClass
from deviceplugin.schema import section_of
from deviceplugin.vendor import HealthDefaults, Repeat, Sections, SharingMethod
from deviceplugin.vendors.nvidia.delivery import Delivery, Support
from deviceplugin.vendors.nvidia.library import OpenNvml, open_nvml
from deviceplugin.vendors.nvidia.limits import VARIABLES, compute_limit, limiting_library
from deviceplugin.vendors.nvidia.mps import Mps
from deviceplugin.vendors.nvidia.session import NvmlSession, Session
from deviceplugin.vendors.nvidia.settings import (
    CudaSection,
    MigSection,
    NvidiaSection,
    VgpuSection,
)
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor

NAME = "nvidia"
RESOURCE_DOMAIN = "nvidia.com"
SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "nvidia": NvidiaSection,
    "mig": MigSection,
    "vgpu": VgpuSection,
    "cuda": CudaSection,
}
# NVIDIA's plugin documents the variables; a page fault (31) is the application's own error, unless
# it comes twice a day.
_SLOW = Repeat(count=6, window_s=600.0, kind=FaultClass.HARDWARE)
HEALTH_DEFAULTS = HealthDefaults(
    repeats={
        "nvidia.clocks/hw_slowdown": _SLOW,
        "nvidia.clocks/hw_thermal": _SLOW,
        "nvidia.clocks/power_brake": _SLOW,
        "nvidia.xid/31": Repeat(count=2, window_s=86400.0, kind=FaultClass.WARN),
    },
    numbered={"xids": "nvidia.xid"},
    variables={"DP_DISABLE_HEALTHCHECKS": "disable", "DP_ENABLE_HEALTHCHECKS": "enable"},
)
SHARE_VARIABLES = VARIABLES
SHARE_COMPUTE = compute_limit
SHARING: Mapping[str, SharingMethod] = {"mps": Mps()}


def create(
    host: Host,
    sections: Sections,
    open_library: OpenNvml = open_nvml,
    support: Support = read_cdi_support,
) -> NvidiaVendor:
    """The vendor for `host`; loads no library before it is asked to discover.

    `open_library` is the seam for a simulated NVML in this process, `support` for a container
    runtime whose container this process is not in.
    """
    settings = section_of(sections, "nvidia", NvidiaSection)
    mig = section_of(sections, "mig", MigSection)
    vgpu = section_of(sections, "vgpu", VgpuSection)
    session = _session(host, settings, open_library)
    variables = section_of(sections, "cuda", CudaSection).runtime.variables
    delivery = Delivery(settings, support, variables, limiting_library(sections))
    return NvidiaVendor(host, delivery, mig, session, vgpu)


def _session(host: Host, settings: NvidiaSection, open_library: OpenNvml) -> Session:
    dirs = settings.driver_library_dirs
    if not settings.library_process:
        if open_library is open_nvml:
            open_library = partial(open_nvml, library_dirs=dirs)
        return NvmlSession(host, settings.driver_root, open_library)
    from deviceplugin.vendors.nvidia.child.session import ProcessSession  # noqa: PLC0415  # where asked for

    return ProcessSession(host, settings.driver_root, library_dirs=dirs)
