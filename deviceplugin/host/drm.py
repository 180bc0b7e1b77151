"""DRM nodes of a device (Documentation/gpu/drm-uapi.rst): which /dev/dri entries it has."""

from msgspec import Struct

from deviceplugin.host.host import Host
from deviceplugin.host.numbers import numbered, parse_decimal

MINORS = "/sys/class/drm"


class DrmNodes(Struct, frozen=True, kw_only=True):
    """The card and render nodes of one device as host paths, None where it has none."""

    card: str | None = None
    render: str | None = None

    @property
    def render_minor(self) -> int | None:
        """The number in `renderD<minor>`, by which KFD names the device."""
        return parse_decimal(self.render.rpartition("renderD")[2]) if self.render else None


def read_drm_nodes(host: Host, device_path: str) -> DrmNodes:
    """The nodes below `<device_path>/drm`; control nodes and other entries are left out."""
    names = host.read_names(f"{device_path}/drm")
    return DrmNodes(card=_node(names, "card"), render=_node(names, "renderD"))


def render_node(minor: int) -> str:
    """The render node of a DRM minor."""
    return f"/dev/dri/renderD{minor}"


def render_device(minor: int) -> str:
    """The sysfs link to the device that a render minor belongs to."""
    return f"{MINORS}/renderD{minor}/device"


def _node(names: tuple[str, ...], prefix: str) -> str | None:
    found = numbered(names, prefix)
    return f"/dev/dri/{found[0][1]}" if found else None
