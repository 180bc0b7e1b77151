"""Kernel modules and their debugfs, as far as vendors read them."""

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host

DEBUGFS = "/sys/kernel/debug"
DRM_DEBUGFS = f"{DEBUGFS}/dri"


def read_module_version(host: Host, module: str) -> str | None:
    """The version of a loaded module; those of the kernel's own tree mostly have none."""
    try:
        return host.read_line(f"/sys/module/{module}/version")
    except DiscoveryError:
        return None
