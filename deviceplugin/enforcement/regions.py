"""Regions of device memory as the kernel's dmem controller names them, and limits on them; pure.

A region is `drm/<PCI address>/<name>` (drivers/gpu/drm/drm_drv.c, drmm_cgroup_register_region):
amdgpu has `vram`, xe one for each tile (`vram0`). Each file of the controller has a line a region,
`<region> <bytes or max>` (Documentation/admin-guide/cgroup-v2.rst, DMEM).
"""

import re
from collections.abc import Iterable, Mapping

from deviceplugin.vendor import Grant

Limits = Mapping[str, int]  # bytes by region

# In a container's annotations, one for each resource: the kubelet keeps one value of a key, and
# only device plugins can write annotations of containers, no pod and no image.
ANNOTATION = "memory.deviceplugin/"
PAGE = 4096  # the kernel counts whole pages
MAX_LINES = 256
MAX_BYTES = 1 << 60
_ADDRESS = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_VIDEO = re.compile(rf"drm/({_ADDRESS})/vram[0-9]{{0,2}}")
_AMOUNT = re.compile(r"[0-9]{1,19}")


def parse_lines(text: str) -> dict[str, int | None]:
    """The amount of each region of video memory, None for `max`; what is no such line is left out:
    other regions (`stolen`) are nobody's slice."""
    found: dict[str, int | None] = {}
    for line in text.splitlines()[:MAX_LINES]:
        region, _, amount = line.strip().rpartition(" ")
        if _VIDEO.fullmatch(region) and (amount == "max" or _AMOUNT.fullmatch(amount)):
            found[region] = None if amount == "max" else int(amount)
    return found


def format_limits(limits: Limits) -> str:
    """What is written into dmem.max: sorted, a line each."""
    return "\n".join(f"{region} {limits[region]}" for region in sorted(limits))


def capacity_of(address: str | None, capacity: Limits) -> Limits:
    """The regions of the GPU at a PCI address, of all that the kernel has."""
    prefix = f"drm/{(address or '').lower()}/"
    return {region: size for region, size in capacity.items() if region.startswith(prefix)}


def addresses_of(regions: Iterable[str]) -> frozenset[str]:
    """The PCI addresses of the GPUs whose memory the regions are."""
    return frozenset(match[1] for region in regions if (match := _VIDEO.fullmatch(region)))


def limits_of(grants: Iterable[Grant], capacity: Limits) -> Limits:
    """What a container with these shares may have of each region.

    Slices of a GPU with several tiles are no tile's own: each tile gives its part, in proportion to
    its size and rounded down, so that the limits of all slices never exceed a tile. A GPU of which
    the kernel has no region is left out, and so is a replica, which no amount of memory belongs to.
    """
    limits: dict[str, int] = {}
    for grant in grants:
        regions = capacity_of(grant.device.pci_address, capacity)
        total = sum(regions.values())
        if grant.memory_bytes is None or grant.share.unit_bytes is None or not total:
            continue
        for region, size in regions.items():
            part = min(grant.memory_bytes, total) * size // total
            limits[region] = limits.get(region, 0) + part // PAGE * PAGE
    return limits


def annotation_of(resource: str, limits: Limits) -> dict[str, str]:
    """The limits of a container's shares of a resource, in its annotations; none for no limits."""
    if not limits:
        return {}
    return {f"{ANNOTATION}{resource.replace('/', '_')}": format_limits(limits)}


def annotated(annotations: Mapping[str, str]) -> Limits:
    """The limits in a container's annotations, those of several resources added.

    Raises ValueError for what we do not write.
    """
    limits: Limits = {}
    for key, text in sorted(annotations.items()):
        if key.startswith(ANNOTATION):
            limits = summed(limits, _limits(key, text))
    return limits


def summed(one: Limits, other: Limits) -> Limits:
    """What a container may have that has both."""
    return {r: one.get(r, 0) + other.get(r, 0) for r in (*one, *(o for o in other if o not in one))}


def _limits(key: str, text: str) -> Limits:
    found = parse_lines(text)
    lines = text.splitlines()
    if not lines or len(found) != len(lines):
        raise ValueError(f"the annotation {key} is not a limit for each region of memory")
    sizes = {region: size for region, size in found.items() if size is not None}
    if len(sizes) != len(found) or max(sizes.values()) > MAX_BYTES:
        raise ValueError(f"the annotation {key} has a limit that is no number of bytes")
    return sizes
