"""The AMD vendor module: whole GPUs, compute partitions and MxGPU virtual functions."""

from collections.abc import Mapping

import msgspec

from deviceplugin.host import Host
from deviceplugin.vendor import Sections
from deviceplugin.vendors.amd.compute import compute_limit
from deviceplugin.vendors.amd.found import NAME
from deviceplugin.vendors.amd.settings import AmdSection, MxgpuSection, RocmSection, parse_sections
from deviceplugin.vendors.amd.vendor import AmdVendor

__all__ = ["NAME", "SECTIONS", "create"]

RESOURCE_DOMAIN = "amd.com"
SHARE_COMPUTE = compute_limit
SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "amd": AmdSection,
    "mxgpu": MxgpuSection,
    "rocm": RocmSection,
}


def create(host: Host, sections: Sections) -> AmdVendor:
    """The vendor for `host`; sections that are not given have their defaults."""
    return AmdVendor(host, parse_sections(sections))
