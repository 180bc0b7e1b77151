"""A PCI function goes from one driver to another below a tree, as the kernel has it.

Nodes come and go with the driver: DRM ones with a GPU's own, those of VFIO with vfio-pci.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deviceplugin.testing.tree import write_tree

DEVICES = "sys/bus/pci/devices"
DRIVERS = "sys/bus/pci/drivers"
VFIO = "vfio-pci"


def driver_of(root: Path, address: str) -> str | None:
    """The driver that a function has."""
    link = root / DEVICES / address / "driver"
    return Path(os.readlink(link)).name if link.is_symlink() else None


def release(root: Path, address: str) -> None:
    """Take a function from its driver, with its nodes."""
    path = root / DEVICES / address
    if (driver := driver_of(root, address)) is None:
        return
    for node in (path / "drm").glob("*"):
        (root / "sys/class/drm" / node.name).unlink(missing_ok=True)
        (root / "dev/dri" / node.name).unlink(missing_ok=True)
    for link in (root / "dev/dri/by-path").glob(f"pci-{address}-*"):
        link.unlink()
    for folder in ("drm", "vfio-dev"):
        shutil.rmtree(path / folder, ignore_errors=True)
    if driver == VFIO and (group := _group(root, address)):
        (root / "dev/vfio" / group).unlink(missing_ok=True)
    (path / "driver").unlink()
    (root / DRIVERS / driver / address).unlink(missing_ok=True)


def take(root: Path, address: str, driver: str) -> None:
    """Give a function that has none to a driver."""
    path = f"/{DEVICES}/{address}"
    lines = [
        f"{path}/driver -> ../../../bus/pci/drivers/{driver}",
        f"/{DRIVERS}/{driver}/{address} -> ../../../../bus/pci/devices/{address}",
    ]
    group = _group(root, address)
    if driver == VFIO:
        lines += [f"/dev/vfio/{group} c 240:{group}"] if group else []
        lines += ["/dev/vfio/vfio c 10:196", f"{path}/vfio-dev/vfio{group or 0}/"]
    else:
        lines += _drm_lines(root, address)
    write_tree(root, "\n".join(lines))


def _drm_lines(root: Path, address: str) -> Iterator[str]:
    """The lowest numbers that are free, as the kernel gives them."""
    real = "/" + str((root / DEVICES / address).resolve().relative_to(root.resolve()))
    for kind, prefix, first in (("card", "card", 0), ("render", "renderD", 128)):
        minor = first
        while (root / "sys/class/drm" / f"{prefix}{minor}").is_symlink() or (
            root / "dev/dri" / f"{prefix}{minor}"
        ).exists():
            minor += 1
        name = f"{prefix}{minor}"
        yield f"{real}/drm/{name}/dev = 226:{minor}"
        yield f"/sys/class/drm/{name} -> ../..{real.removeprefix('/sys')}/drm/{name}"
        yield f"/dev/dri/{name} c 226:{minor}"
        yield f"/dev/dri/by-path/pci-{address}-{kind} -> ../{name}"


def _group(root: Path, address: str) -> str | None:
    link = root / DEVICES / address / "iommu_group"
    return Path(os.readlink(link)).name if link.is_symlink() else None
