"""The extended resources that Intel devices are offered as; pure."""

from deviceplugin.model import ResourceName
from deviceplugin.vendors.intel.settings import DOMAIN, VFIO_SUFFIX, IntelSettings

# The domain of Intel's own device plugin.
_DRIVER_DOMAIN = "gpu.intel.com"


def drm_name(settings: IntelSettings, profile: str, driver: str) -> ResourceName:
    """The resource of a GPU or slice that `driver` serves; `profile` is `gpu` for a whole one.

    Intel's own plugin calls all of these by the driver, whole or not: so does that option.
    """
    if settings.resource_naming == "driver":
        return ResourceName(f"{_DRIVER_DOMAIN}/{driver}")
    return ResourceName(f"{DOMAIN}/{profile}")


def vfio_name(profile: str) -> ResourceName:
    """The resource of a slice for virtual machines, never mixed with those for containers."""
    return ResourceName(f"{DOMAIN}/{profile}{VFIO_SUFFIX}")


def monitoring_name(settings: IntelSettings) -> ResourceName:
    """The resource that gives every node of every Intel GPU."""
    if settings.resource_naming == "driver":
        return ResourceName(f"{_DRIVER_DOMAIN}/monitoring")
    return ResourceName(f"{DOMAIN}/gpu-monitoring")
