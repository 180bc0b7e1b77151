"""Intel GPUs under i915 and xe: whole, as SR-IOV virtual functions, and inside guests.

The vendor module of the entry point `intel`; docs/vendors/intel.md says what is read and why.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import msgspec

from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, frozen
from deviceplugin.schema import section_of
from deviceplugin.vendor import Sections
from deviceplugin.vendors.intel.found import NAME
from deviceplugin.vendors.intel.health import IntelHealth
from deviceplugin.vendors.intel.reader import query_memory
from deviceplugin.vendors.intel.settings import IntelSettings, OneapiSection, XeSettings
from deviceplugin.vendors.intel.vendor import IntelVendor

__all__ = ["NAME", "SECTIONS", "IntelVendor", "create"]

RESOURCE_DOMAIN = "intel.com"
SECTIONS: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {"intel": IntelSettings, "intel_xe": XeSettings, "oneapi": OneapiSection}
)


def create(host: Host, sections: Sections) -> IntelVendor:
    """Make the vendor from the decoded sections `intel`, `intel_xe` and `oneapi`."""
    vendor = IntelVendor(
        host=host,
        query=partial(query_memory, host),
        settings=section_of(sections, "intel", IntelSettings),
        xe=section_of(sections, "intel_xe", XeSettings),
        health=IntelHealth(host),
    )
    runtime = section_of(sections, "oneapi", OneapiSection).runtime
    vendor.variables = ContainerEdits(env=frozen(dict(runtime.variables)))
    return vendor
