"""The cgroup tree (version 2): which limits it can keep, where containers are, and their limits.

Every call blocks. The kernel's rules: Documentation/admin-guide/cgroup-v2.rst. A cgroup can vanish
at any moment, with its container; then there is nothing to limit.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from deviceplugin.enforcement.regions import Limits, format_limits, parse_lines
from deviceplugin.errors import DevicePluginError

CONTROLLER = "dmem"
MAX_FILE = 1 << 20
MAX_DEPTH = 12  # of a container below a runtime that runs in a container itself
_PODS = re.compile(r"(?:.*-)?kubepods(?:\.slice)?")
_ID = re.compile(r"(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?")
_REASONS = {
    errno.EBUSY: "the container already uses more than that",
    errno.EINVAL: "the kernel does not know such a region",
    errno.ENOENT: "the controller dmem is not enabled there",
    errno.EACCES: "this process may not write there",
    errno.EPERM: "this process may not write there",
    errno.EROFS: "the tree is mounted read-only",
}


class LimitError(DevicePluginError):
    """A limit cannot be set: in which cgroup and why. `busy` where it can be set later, when the
    container uses less."""

    def __init__(self, text: str, *, busy: bool = False) -> None:
        super().__init__(text)
        self.busy = busy


class Tree:
    """A cgroup tree below `root`, which is the host's whole tree and not that of a container."""

    def __init__(self, root: Path, write: Callable[[Path, str], None] | None = None) -> None:
        """`write` is how a file is written, by default as the kernel wants it."""
        self.root, self._written = root, write or _write_file

    def capacity(self) -> Limits:
        """The size of each region of video memory; none where the kernel has no controller."""
        sizes = parse_lines(self._read(self.root / f"{CONTROLLER}.capacity") or "")
        return {region: size for region, size in sizes.items() if size}

    def problem(self) -> str:
        """Why no limit on device memory holds in this tree, "" where it does."""
        controllers = self._read(self.root / "cgroup.controllers")
        if controllers is None:
            return f"{self.root} is no cgroup tree of version 2"
        if CONTROLLER not in controllers.split():
            return "the kernel has no dmem controller (Linux 6.14 with CONFIG_CGROUP_DMEM)"
        if self._read(self.root / f"{CONTROLLER}.capacity") is None:
            return f"{self.root} is not the host's whole tree: it has no dmem.capacity"
        return ""

    def path_problem(self) -> str:
        """Why containers of pods have no limits: the controller must be enabled in each cgroup from
        the root to theirs. "" where it is, or where there are no pods yet."""
        for place in (self.root, *self.pods()):
            if CONTROLLER not in (self._read(place / "cgroup.subtree_control") or "").split():
                return f"dmem is not enabled in {place}/cgroup.subtree_control"
        return ""

    def enable(self) -> None:
        """Enable the controller from the root to every pod's parent, the upper ones first.

        Raises LimitError where the kernel or a read-only tree refuses.
        """
        for place in (self.root, *self.pods()):
            self._enable_in(place)

    def _enable_in(self, place: Path) -> None:
        enabled = self._read(place / "cgroup.subtree_control")
        if enabled is not None and CONTROLLER not in enabled.split():
            self._write(place / "cgroup.subtree_control", f"+{CONTROLLER}")

    def pods(self) -> tuple[Path, ...]:
        """The cgroups above those of pods: of kubepods itself, what leads to it, and the classes of
        service below it. With either cgroup driver, and of a kubelet in a container."""
        found: list[Path] = []
        for place in self._kubepods(self.root, 4):
            above = [p for p in place.parents if p.is_relative_to(self.root) and p != self.root]
            found += [*reversed(above), place]
            found += [below for below in _folders(place) if _is_class(below.name)]
        return tuple(dict.fromkeys(found))

    def _kubepods(self, place: Path, depth: int) -> Iterator[Path]:
        for below in _folders(place):
            if _PODS.fullmatch(below.name):
                yield below
            elif depth and not _is_of_a_service(below.name):
                yield from self._kubepods(below, depth - 1)

    def containers(self) -> dict[str, Path]:
        """The cgroup of each container of a pod, by the container's id."""
        found: dict[str, Path] = {}
        for place in self._kubepods(self.root, 4):
            for folder, below, _ in os.walk(place):
                for name in below:
                    if match := _ID.fullmatch(name):
                        found[match[1]] = Path(folder) / name
                below[:] = [name for name in below if not _ID.fullmatch(name)]
        return found

    def limits(self, cgroup: Path) -> dict[str, int | None] | None:
        """The limits of a cgroup, None where it has none because it or its controller is absent."""
        text = self._read(cgroup / f"{CONTROLLER}.max")
        return None if text is None else parse_lines(text)

    def usage(self, cgroup: Path) -> dict[str, int]:
        """What a cgroup has of each region now; nothing where it is gone."""
        sizes = parse_lines(self._read(cgroup / f"{CONTROLLER}.current") or "")
        return {region: size for region, size in sizes.items() if size is not None}

    def limit(self, cgroup: Path, limits: Limits, *, minimum: bool = False) -> None:
        """Hold a cgroup to limits, and with `minimum` protect as much for it; one that is gone
        needs none. Raises LimitError."""
        if not cgroup.is_dir():
            return
        self._enable_above(cgroup)
        for name in ("max", "min") if minimum else ("max",):
            # One region a write: of several in one, an older kernel takes those before a wrong one.
            for region in sorted(limits):
                line = format_limits({region: limits[region]})
                self._write(cgroup / f"{CONTROLLER}.{name}", line, gone=cgroup)

    def _enable_above(self, cgroup: Path) -> None:
        above = [p for p in cgroup.parents if p == self.root or p.is_relative_to(self.root)]
        for place in reversed(above[:MAX_DEPTH]):
            self._enable_in(place)

    def _write(self, path: Path, text: str, gone: Path | None = None) -> None:
        try:
            self._written(path, text)
        except OSError as error:
            if gone is not None and (error.errno == errno.ENODEV or not gone.exists()):
                return
            raise LimitError(
                f"{path}: {text}: {_why(path, error)}", busy=_is_busy(error)
            ) from error

    def _read(self, path: Path) -> str | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            return os.read(descriptor, MAX_FILE).decode("utf-8", "replace")
        except OSError:  # ENODEV: the cgroup was removed after it was opened
            return None
        finally:
            os.close(descriptor)


def container_of(cgroup: Path) -> str:
    """The id of the container that a cgroup is, "" where it is none."""
    match = _ID.fullmatch(cgroup.name)
    return match[1] if match else ""


def _why(path: Path, error: OSError) -> str:
    if _is_busy(error) and path.name == "cgroup.subtree_control":
        return "processes run in that cgroup itself"
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _is_busy(error: OSError) -> bool:
    return error.errno == errno.EBUSY


def _write_file(path: Path, text: str) -> None:
    """In one write, as the kernel takes it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _is_class(name: str) -> bool:
    return name.removesuffix(".slice").rpartition("-")[2] in ("burstable", "besteffort")


def _is_of_a_service(name: str) -> bool:
    """A unit of systemd that has no pods below."""
    return name.endswith((".service", ".mount", ".socket"))


def _folders(place: Path) -> tuple[Path, ...]:
    try:
        with os.scandir(place) as entries:
            found = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return ()
    return tuple(sorted(found))
