"""The driver's files for containers: libraries and programs of exactly one version, found through
the host's links, and the places inside where an image's linker looks for them."""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Hook, Mount
from deviceplugin.vendors.nvidia.folders import (
    PROGRAM_FOLDERS,
    SONAMES,
    DriverTree,
    library_folders,
)

PROGRAMS = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)
# What must be there under the names by which programs load it, whatever links the host has.
REQUIRED = "libcuda"
# The default folders of the dynamic linkers of Red Hat's family, and of Debian's (by machine).
LIB64, MULTIARCH = "/usr/lib64", "/usr/lib/{machine}-linux-gnu"
HOOK_PROGRAMS = tuple(
    f"{folder}/{name}"
    for folder in ("/usr/bin", "/usr/local/nvidia/toolkit", "/usr/local/bin")
    for name in ("nvidia-cdi-hook", "nvidia-ctk")
)
_ELF, _CLASS_32 = b"\x7fELF", 1
_MAX_NAMED = 12


class Driver(Struct, frozen=True, kw_only=True):
    """Which driver is wanted: `root` and `library_dirs` are host paths. `hook` is the program
    that refreshes the linker's cache: None for one that is found, empty for none."""

    root: str
    version: str | None
    library_dirs: Sequence[str] = ()
    hook: str | None = None


class DriverFiles(Struct, frozen=True, kw_only=True):
    """What every container gets of the driver; `problem` says why that is not enough for CUDA,
    `hook_problem` why the hook that was asked for is not in it."""

    edits: ContainerEdits
    problem: str | None
    hook_problem: str | None = None


def read_driver_files(host: Host, driver: Driver) -> DriverFiles:
    """All libraries and programs of the driver's version.

    With a hook the libraries are mounted in one folder, which it adds to the linker's cache;
    without one in both folders where linkers look by themselves.
    """
    if driver.version is None:
        return DriverFiles(edits=ContainerEdits(), problem="NVML does not say the driver's version")
    folders = library_folders(host, driver.root, driver.library_dirs)
    tree = DriverTree(host, driver.root)
    real = _libraries(tree, folders, driver.version)
    if f"{REQUIRED}.so.{driver.version}" not in real:
        return DriverFiles(edits=ContainerEdits(), problem=_missing(tree, driver, folders))
    library = real[f"{REQUIRED}.so.{driver.version}"]
    hooks, refused = cache_hooks(host, driver.hook, folders_inside(library, alone=True))
    inside = folders_inside(library, alone=bool(hooks))
    names = {**_links(tree, folders, real), **real}
    mounts = (
        *(Mount(path=f"{f}/{n}", host_path=names[n]) for f in inside for n in sorted(names)),
        *_programs(tree),
    )
    edits = ContainerEdits(mounts=mounts, hooks=hooks)
    return DriverFiles(edits=edits, problem=None, hook_problem=refused)


def _libraries(tree: DriverTree, folders: Sequence[str], version: str) -> Mapping[str, str]:
    """The real files of the version by their names; the first folder that has a name counts."""
    wanted = re.compile(rf"lib[\w.+-]+\.so\.{re.escape(version)}")
    found: dict[str, str] = {}
    for folder in folders:
        for name in filter(wanted.fullmatch, tree.names(folder)):
            path = tree.real(f"{folder}/{name}")
            if path is not None and name not in found and not _is_32_bit(tree.host, path):
                found[name] = path
    return found


def _is_32_bit(host: Host, path: str) -> bool:
    """Red Hat's /usr/lib has the libraries for 32-bit programs."""
    try:
        start = host.read_bytes(path, 5) or b""
    except VendorError:
        return False
    return start[:4] == _ELF and start[4:5] == bytes([_CLASS_32])


def _links(tree: DriverTree, folders: Sequence[str], real: Mapping[str, str]) -> Mapping[str, str]:
    """The other names by which the host's links lead to the real files."""
    stems = {name.partition(".so")[0]: path for name, path in real.items()}
    files = frozenset(real.values())
    found = {name: stems[stem] for name in SONAMES if (stem := name.partition(".so")[0]) in stems}
    for folder in folders:
        for name in tree.names(folder):
            if name not in real and name not in found and name.partition(".so")[0] in stems:
                path = tree.real(f"{folder}/{name}")
                if path in files:
                    found[name] = path
    return found


def folders_inside(library: str, *, alone: bool) -> tuple[str, ...]:
    """Where linkers of images look by themselves: all such folders, or `alone` the one that is like
    the library's on the host."""
    multiarch = MULTIARCH.format(machine=platform.machine())
    if not alone:
        return (LIB64, multiarch)
    return (multiarch,) if "-linux-gnu/" in library else (LIB64,)


def _programs(tree: DriverTree) -> Iterator[Mount]:
    for name in PROGRAMS:
        places = (f"{tree.root.rstrip('/')}/{folder}/{name}" for folder in PROGRAM_FOLDERS)
        found = (real for place in places if (real := tree.real(place)))
        path = next((path for path in found if not _is_script(tree.host, path)), None)
        if path is not None:
            yield Mount(path=f"/usr/bin/{name}", host_path=path)


def _is_script(host: Host, path: str) -> bool:
    """A wrapper around the program proper; what else it needs of the host is not in the image."""
    try:
        return host.read_bytes(path, 2) == b"#!"
    except VendorError:
        return False


def _missing(tree: DriverTree, driver: Driver, folders: Sequence[str]) -> str:
    """What was looked for and where, and what was found in its place."""
    looked = ", ".join(folders[:_MAX_NAMED]) or f"no folder for libraries below {driver.root}"
    others = sorted(
        f"{folder}/{name}"
        for folder in folders
        for name in tree.names(folder)
        if name.startswith(f"{REQUIRED}.so")
    )
    text = f"{REQUIRED}.so.{driver.version} is not on the host, looked for in: {looked}"
    return text + "".join(f"; {_other(tree, path)}" for path in others[:2])


def _other(tree: DriverTree, path: str) -> str:
    target = tree.host.read_link(path)
    if target is not None and tree.real(path) is None:
        return f"{path} leads to {target}, which is not to be seen"
    return f"{path} is there"


def cache_hooks(
    host: Host, named: str | None, folders: Sequence[str]
) -> tuple[tuple[Hook, ...], str | None]:
    """The hook that adds `folders` to an image's cache of the linker, none without a program for
    it, and why the one that was named is not used."""
    hook, refused = _hook_program(host, named)
    return ((_cache_hook(hook, folders),) if hook else ()), refused


def _hook_program(host: Host, named: str | None) -> tuple[str | None, str | None]:
    """The program, and why it is not the one that was named: runtimes run it as root, outside of
    every container."""
    if named is None:
        return next((path for path in HOOK_PROGRAMS if host.untrusted(path) is None), None), None
    problem = host.untrusted(named) if named else None
    return (None, f"{named} is not used: {problem}") if problem else (named or None, None)


def _cache_hook(path: str, folders: Sequence[str]) -> Hook:
    """`nvidia-ctk hook update-ldcache` or `nvidia-cdi-hook update-ldcache`."""
    base = path.rpartition("/")[2]
    verb = (base, "hook") if base == "nvidia-ctk" else (base,)
    arguments = [word for folder in folders for word in ("--folder", folder)]
    return Hook(name="createContainer", path=path, args=(*verb, "update-ldcache", *arguments))
