"""The host as we read it: roots, sysfs, PCI, DRM and kernel events. Nothing here writes."""

from deviceplugin.host.host import Host

__all__ = ["Host"]
