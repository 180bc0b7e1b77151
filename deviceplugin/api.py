"""The public interface: every name that a vendor or a placement policy of a third party needs.

Stable by semantic versioning (https://semver.org): a name that stands in `__all__` here keeps its
meaning until the next major version of this package. Before one is changed or removed it goes on
working for a minor release at least, with a notice in the log and in CHANGELOG.md. Added may be at
any time: names, optional methods, fields with a default; so make values by keyword, and expect
members of an enumeration that you do not know. `CONTRACT` is the number of what a vendor has to
fulfil; a vendor module that says which one it was written for is left out, with one line in the
log, where the daemon has another.

Of the modules `drm`, `faults`, `modules`, `numbers`, `pci` and `trace` the names without an
underscore are meant. Whatever else a module of this package has is private and may change in any
release. Nothing of this package imports this module.
"""

from deviceplugin import faults
from deviceplugin.edits import VfioFunction, kubevirt_variable, merge_edits, vfio_edits
from deviceplugin.errors import (
    CallTimeoutError,
    DevicePluginError,
    DiscoveryError,
    ExhaustedError,
    FilesError,
    LibraryError,
    UnavailableError,
    VendorError,
)
from deviceplugin.host import Host, drm, modules, numbers, pci, trace
from deviceplugin.host.trace import TracingHost, traced
from deviceplugin.model import (
    AdvertisedDevice,
    AdvertisedID,
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceID,
    DeviceNode,
    Discovery,
    Fault,
    FaultClass,
    Health,
    Hook,
    Isolation,
    Link,
    LinkKind,
    Mount,
    Preference,
    Resource,
    ResourceName,
    Share,
    frozen,
)
from deviceplugin.names import (
    cdi_device_problem,
    cdi_kind_problem,
    cdi_name_problem,
    id_problem,
    name_problem,
    one_line,
    size_class,
)
from deviceplugin.placement.layout import Layout
from deviceplugin.placement.topology import Topology
from deviceplugin.placement.view import Context, Policy, Reading
from deviceplugin.schema import Scheduling, Section, parse_bytes
from deviceplugin.vendor import (
    CONTRACT,
    CdiSource,
    Closable,
    Finding,
    Glance,
    HealthDefaults,
    HealthMonitor,
    HealthProbe,
    HealthReport,
    Repeat,
    Sections,
    Vendor,
    VendorModule,
)

__all__ = [
    "CONTRACT",
    "AdvertisedDevice",
    "AdvertisedID",
    "CallTimeoutError",
    "CdiSource",
    "CdiSpec",
    "Closable",
    "ContainerEdits",
    "Context",
    "Device",
    "DeviceID",
    "DeviceNode",
    "DevicePluginError",
    "Discovery",
    "DiscoveryError",
    "ExhaustedError",
    "Fault",
    "FaultClass",
    "FilesError",
    "Finding",
    "Glance",
    "Health",
    "HealthDefaults",
    "HealthMonitor",
    "HealthProbe",
    "HealthReport",
    "Hook",
    "Host",
    "Isolation",
    "Layout",
    "LibraryError",
    "Link",
    "LinkKind",
    "Mount",
    "Policy",
    "Preference",
    "Reading",
    "Repeat",
    "Resource",
    "ResourceName",
    "Scheduling",
    "Section",
    "Sections",
    "Share",
    "Topology",
    "TracingHost",
    "UnavailableError",
    "Vendor",
    "VendorError",
    "VendorModule",
    "VfioFunction",
    "cdi_device_problem",
    "cdi_kind_problem",
    "cdi_name_problem",
    "drm",
    "faults",
    "frozen",
    "id_problem",
    "kubevirt_variable",
    "merge_edits",
    "modules",
    "name_problem",
    "numbers",
    "one_line",
    "parse_bytes",
    "pci",
    "size_class",
    "trace",
    "traced",
    "vfio_edits",
]
