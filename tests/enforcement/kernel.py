"""A cgroup tree that answers as the kernel's does, and containers that come and go in it.

Files are files; what is written goes through `write`, which keeps the kernel's rules
(kernel/cgroup/dmem.c and cgroup.c, Linux 6.14 to 6.18): a controller is there only where the parent
has it enabled, a region must be one of the node's, and in older kernels a limit below what is used
is EBUSY.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from deviceplugin.enforcement.cgroups import Tree

GIB = 1 << 30
AMD = "drm/0000:c6:00.0/vram"
TILES = ("drm/0000:03:00.0/vram0", "drm/0000:03:00.0/vram1")
CAPACITY = {AMD: 16 * GIB, TILES[0]: 12 * GIB, TILES[1]: 12 * GIB}
_FILES = ("dmem.max", "dmem.min", "dmem.low")


class KernelTree:
    """Below `root`; `busy` are kernels that do not take a limit below the use."""

    def __init__(
        self, root: Path, capacity: Mapping[str, int] = CAPACITY, *, busy: bool = True
    ) -> None:
        self.root, self.capacity, self.busy = root, dict(capacity), busy
        root.mkdir(parents=True)
        (root / "cgroup.controllers").write_text("cpuset cpu io memory pids dmem\n")
        (root / "cgroup.subtree_control").write_text("cpu memory pids\n")
        lines = [f"{region} {size}\n" for region, size in self.capacity.items()]
        (root / "dmem.capacity").write_text("".join(lines))

    @property
    def tree(self) -> Tree:
        """What is tested, on this tree."""
        return Tree(self.root, self.write)

    def make(self, path: str) -> Path:
        """A cgroup, and those above it."""
        place = self.root
        for part in path.strip("/").split("/"):
            place /= part
            if not place.exists():
                place.mkdir()
                (place / "cgroup.subtree_control").write_text("cpu memory pids\n")
                self._show(place)
        return place

    def end(self, path: Path) -> None:
        """A container ends: its cgroup is removed, with its limits."""
        shutil.rmtree(path)

    def use(self, cgroup: Path, region: str, size: int) -> None:
        """Memory is allocated; what is above the limit is not: raises MemoryError."""
        limit = self.tree.limits(cgroup)
        most = (limit or {}).get(region)
        if most is not None and size > most:
            raise MemoryError
        (cgroup / "dmem.current").write_text(f"{region} {size}\n")

    def write(self, path: Path, text: str) -> None:
        """What is written to a file of the tree, by the rules of the kernel."""
        place = path.parent
        if not place.exists():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if not path.exists():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if path.name == "cgroup.subtree_control":
            self._enable(place, text)
        else:
            self._limit(path, text)

    def _enable(self, place: Path, text: str) -> None:
        name = text.removeprefix("+")
        above = place if place == self.root else place.parent
        file = "cgroup.controllers" if place == self.root else "cgroup.subtree_control"
        if name not in (above / file).read_text().split():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        known = (place / "cgroup.subtree_control").read_text().split()
        (place / "cgroup.subtree_control").write_text(" ".join([*known, name]) + "\n")
        for below in place.iterdir():
            if below.is_dir():
                self._show(below)

    def _show(self, place: Path) -> None:
        """The controller's files, where the cgroup above has it enabled."""
        if "dmem" in (place.parent / "cgroup.subtree_control").read_text().split():
            for name in _FILES:
                if not (place / name).exists():
                    default = "max" if name == "dmem.max" else "0"
                    lines = [f"{region} {default}\n" for region in self.capacity]
                    (place / name).write_text("".join(lines))
            (place / "dmem.current").touch()

    def _limit(self, path: Path, text: str) -> None:
        known = dict(line.rsplit(" ", 1) for line in path.read_text().splitlines())
        used = self.tree.usage(path.parent)
        for line in text.splitlines():
            region, amount = line.rsplit(" ", 1)
            if region not in self.capacity:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if self.busy and path.name == "dmem.max" and used.get(region, 0) > int(amount):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            known[region] = amount
        path.write_text("".join(f"{region} {size}\n" for region, size in known.items()))
