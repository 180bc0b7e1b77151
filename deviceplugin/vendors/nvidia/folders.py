"""Where the driver's libraries and programs are on the host, distribution by distribution."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from deviceplugin.errors import VendorError
from deviceplugin.host import Host

_MULTIARCH = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu")
# Below the driver root: Red Hat and SUSE; Debian and Ubuntu; trees of driver containers, COS;
# Arch; NixOS; Talos; a driver in a folder of its own.
FOLDERS = (
    "usr/lib64",
    *_MULTIARCH,
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib",
    "run/opengl-driver/lib",
    "usr/local/glibc/usr/lib",
    "usr/local/nvidia/lib64",
)
# Folders that have subfolders for one of several drivers: Debian's nvidia/current, which links of
# /etc/alternatives lead to, or usr/lib/nvidia-<version>.
_PARENTS = ("usr/lib64", *_MULTIARCH, "usr/lib")
# Where the host's drivers, and the tools beside them, are by custom: distributions, driver
# containers, NixOS, Google's COS. Only root writes there.
_CUSTOMARY = (
    *("usr", "opt", "bin", "lib", "lib64", "run/nvidia", "var/run/nvidia"),
    *("run/opengl-driver", "run/current-system", "nix/store"),
    *("home/kubernetes/bin/nvidia", "var/lib/nvidia"),
)
PLACES = tuple(f"/{folder}" for folder in _CUSTOMARY)
PROGRAM_FOLDERS = (
    "usr/bin",
    "bin",
    "usr/lib/nvidia/current",
    "run/current-system/sw/bin",
    "usr/local/nvidia/bin",
)
# The names by which programs load the driver's libraries.
CONTROL = "/dev/nvidiactl"
SONAMES = ("libcuda.so.1", "libnvidia-ml.so.1")


class DriverTree(Struct, frozen=True):
    """Files below a driver root (a host path), reached by links as the programs there follow them.

    The root of a driver container is what its absolute links begin at; where such a path leads
    nowhere, as in a root that is a mere folder of the host, they begin at the host's root.
    """

    host: Host
    root: str

    def real(self, path: str) -> str | None:
        """The file behind all links (host paths), None where there is none."""
        return self.host.read_real_path(path, self.root) or self.host.read_real_path(path)

    def names(self, folder: str) -> tuple[str, ...]:
        """The names in a folder; one that cannot be read has nothing for us."""
        try:
            return self.host.read_names(self.real(folder) or folder)
        except VendorError:
            return ()


def library_folders(host: Host, root: str, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The host paths of the folders that can hold the driver's libraries and exist.

    `root` is the driver root (a host path), `named` are folders (host paths) that come first.
    Last come the folders that the links of the others lead to: a driver can be anywhere, with
    links to its libraries in a usual folder.
    """
    below, tree = root.rstrip("/"), DriverTree(host, root)
    usual = [f"{below}/{folder}" for folder in (*FOLDERS, *_subfolders(tree, below))]
    paths = dict.fromkeys((*(folder.rstrip("/") for folder in named), *usual))
    usable = [path for path in paths if tree.names(path)]
    return tuple(dict.fromkeys((*usable, *_led_to(tree, usable))))


def _led_to(tree: DriverTree, folders: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        for name in SONAMES:
            path = tree.real(f"{folder}/{name}")
            if path is not None and path.rpartition("/")[0] != tree.real(folder):
                yield path.rpartition("/")[0]


def _subfolders(tree: DriverTree, root: str) -> Iterator[str]:
    for parent in _PARENTS:
        for name in tree.names(f"{root}/{parent}"):
            if name == "nvidia":
                yield f"{parent}/nvidia"
                inner = tree.names(f"{root}/{parent}/nvidia")
                yield from (f"{parent}/nvidia/{one}" for one in inner if ".so" not in one)
            elif name.startswith("nvidia-") and ".so" not in name:
                yield f"{parent}/{name}"


def read_dev_root(host: Host, given: str | None, driver_root: str) -> str:
    """Where the device nodes are, unless it is `given`: a driver root without any is one of files
    alone, as COS has it, beside the host's own /dev."""
    if given is not None:
        return given
    own = f"{driver_root.rstrip('/')}{CONTROL}"
    return "/" if not host.exists(own) and host.exists(CONTROL) else driver_root
