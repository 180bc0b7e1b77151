"""Whether the node's container runtime honours the CDI names of an answer.

Nothing is run and no socket is opened: who may speak to a runtime rules the node. What is read: the
runtime's program, from what it was built; its configuration; and, in a container, our own mounts,
which show whose container it is.

Sources: containerd 2.0's notes ("CDI is now enabled by default"), its configuration (version 3 has
`io.containerd.cri.v1.runtime`, version 2 `io.containerd.grpc.v1.cri`), which 1.7 honours and 1.6
passes over in silence; CRI-O has no switch.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from deviceplugin.errors import DiscoveryError, VendorError
from deviceplugin.host.host import Host
from deviceplugin.host.programs import GoProgram, read_go_program

CONTAINERD, CRIO = "containerd", "CRI-O"
PROGRAM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin")
CONTAINERD_FILE, CRIO_FILE, CRIO_FOLDER = (
    "/etc/containerd/config.toml",
    "/etc/crio/crio.conf",
    "/etc/crio/crio.conf.d",
)
# containerd's own default for drop-ins, from 2.2 on.
_DROP_INS = "/etc/containerd/conf.d/*.toml"
_PLUGINS = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")
_CDI_DIRS = frozenset({"/var/run/cdi", "/run/cdi"})
_PROGRAMS: Mapping[str, str] = {CONTAINERD: "containerd", CRIO: "crio"}
_FOLDERS: Mapping[str, str] = {CONTAINERD: "/etc/containerd", CRIO: "/etc/crio"}
_PACKAGES: Mapping[str, str] = {
    CONTAINERD: "github.com/containerd/containerd/",
    CRIO: "github.com/cri-o/cri-o/",
}
_VERSION = re.compile(r"version\.Version=v?(\d+)\.(\d+)|^mod\t\S+\tv(\d+)\.(\d+)", re.MULTILINE)
_MAX_FILES = 64
_NEWER = "containerd 2"
_BY_HAND = "a runtime that honours CDI (containerd 2, CRI-O), and [cdi-cri] as the setting"
# Where the data of containerd is, if it is the one of /etc/containerd: a file system of its own
# hides the first parts of the path, a node in a container (kind) puts others before it.
_DATA = re.compile(r"(?P<root>\S*)/io\.containerd\.grpc\.v1\.cri/")
_IN_DOCKER = re.compile(r".*/docker/volumes/[^/]+/_data")
_OWN = ("/", "/etc/resolv.conf", "/etc/hostname")


class CdiSupport(Struct, frozen=True, kw_only=True):
    """Whether CDI names are `honoured`, why that is said, and what would change a no."""

    honoured: bool
    reason: str
    remedy: str = ""  # of a no


def read_cdi_support(host: Host, own: Host | None = None) -> CdiSupport:
    """What is known of the runtime that runs this node's pods; `own` is where this process finds
    its own /proc. A doubt is a no."""
    found = {name: program for name in _PROGRAMS if (program := _read_program(host, name))}
    if not found:
        return _unknown(f"no containerd or CRI-O is in {', '.join(PROGRAM_FOLDERS)} of the host")
    try:
        ours = running_by((own or Host()).read_text("/proc/self/mountinfo") or "")
    except VendorError as error:
        return _unknown(str(error))
    name = ours or next(iter(found))
    if ours is None and len(found) > 1:
        return _unknown("containerd and CRI-O are both installed")
    if name not in found:
        return _unknown(f"pods are run by {name}, whose settings are not known")
    if not host.exists(_FOLDERS[name]):
        return _unknown(f"{name} is here, {_FOLDERS[name]} of the host is not to be seen")
    return _JUDGES[name](host, found[name])


def running_by(mounts: str) -> str | None:
    """Who runs the container that has these mounts (/proc/self/mountinfo); None for none."""
    fields = (line.split() for line in mounts.splitlines())
    for words in fields:
        if len(words) > 4 and words[4] in _OWN and (name := _runner(" ".join(words))):
            return name
    return None


def _runner(line: str) -> str | None:
    if match := _DATA.search(line):
        root = _IN_DOCKER.sub("", match["root"])
        return CONTAINERD if "/var/lib/containerd".endswith(root) else f"containerd in {root}"
    if "/containers/storage/" in line or "/overlay-containers/" in line:
        return CRIO
    return "Docker" if "/docker/containers/" in line else None


def _read_program(host: Host, name: str) -> GoProgram | None:
    places = (f"{folder}/{_PROGRAMS[name]}" for folder in PROGRAM_FOLDERS)
    reals = filter(None, map(host.read_real_path, places))
    programs = filter(None, (read_go_program(host, path) for path in reals))
    return next((p for p in programs if p.package.startswith(_PACKAGES[name])), None)


def _unknown(reason: str) -> CdiSupport:
    return CdiSupport(honoured=False, reason=reason, remedy=_BY_HAND)


def _judge_containerd(host: Host, program: GoProgram) -> CdiSupport:
    version, second = _version(program), "/containerd/v2/" in program.package
    what = f"containerd {version[0]}.{version[1]}" if version else f"containerd {1 + second}.x"
    try:
        documents = list(_containerd_documents(host))
    except VendorError as error:
        return _unknown(f"{what}: {error}")
    if any(
        str(name).endswith("cri") for d in documents for name in _list(d.get("disabled_plugins"))
    ):
        return _unknown(f"{what} does not run pods (disabled_plugins)")
    if not second and (version is None or version < (1, 7)):
        return CdiSupport(honoured=False, reason=f"{what} honours no CDI names", remedy=_NEWER)
    tables = [t for d in documents for name in _PLUGINS if (t := _table(d, "plugins", name))]
    told = [table.get("enable_cdi") for table in tables]
    # A later table takes the place of an earlier one in 1.x: its silence is the default.
    if False in told or not (second or (told and told[-1])):
        remedy = f"enable_cdi = true in {CONTAINERD_FILE}"
        return CdiSupport(honoured=False, reason=f"{what} has CDI turned off", remedy=remedy)
    return _judge_tables(what, tables, CONTAINERD_FILE)


def _judge_crio(host: Host, program: GoProgram) -> CdiSupport:
    version = _version(program)
    what = f"CRI-O {version[0]}.{version[1]}" if version else CRIO
    try:
        tables = [
            _table(document, "crio", "runtime")
            for path in _paths(host, CRIO_FILE, f"{CRIO_FOLDER}/*")
            if (document := _document(host, path))
        ]
    except VendorError as error:
        return _unknown(f"{what}: {error}")
    return _judge_tables(what, tables, CRIO_FILE)


def _judge_tables(what: str, tables: Sequence[Mapping[str, Any]], file: str) -> CdiSupport:
    """Every list of directories must have ours: which one counts is the runtime's own matter."""
    defaults = [str(table.get("default_runtime", "")) for table in tables]
    defaults += [str(_table(table, "containerd").get("default_runtime_name")) for table in tables]
    if any("nvidia" in name for name in defaults):
        reason = f"{what} runs every container by NVIDIA's runtime"
        return CdiSupport(honoured=False, reason=reason, remedy=f"another default in {file}")
    for folders in (table["cdi_spec_dirs"] for table in tables if "cdi_spec_dirs" in table):
        if not _CDI_DIRS & {folder.rstrip("/") for folder in _list(folders)}:
            remedy = f"/var/run/cdi in cdi_spec_dirs of {file}"
            reason = f"{what} does not read /var/run/cdi"
            return CdiSupport(honoured=False, reason=reason, remedy=remedy)
    return CdiSupport(honoured=True, reason=f"{what} honours CDI names")


def _version(program: GoProgram) -> tuple[int, int] | None:
    match = _VERSION.search(program.text)
    numbers = [int(part) for part in match.groups() if part] if match else []
    return (numbers[0], numbers[1]) if numbers else None


def _containerd_documents(host: Host) -> Iterator[Mapping[str, Any]]:
    """The file and its imports, in the order in which containerd merges them."""
    waiting, seen = [CONTAINERD_FILE], set[str]()
    while waiting:
        path = waiting.pop(0)
        document = None if path in seen else _document(host, path)
        seen.add(path)
        if document is None:
            continue
        yield document
        folder = path.rpartition("/")[0]
        imports = _list(document.get("imports", [_DROP_INS]))
        waiting += _paths(host, *(os.path.normpath(os.path.join(folder, one)) for one in imports))


def _list(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        inner = document.get(key)
        document = inner if isinstance(inner, dict) else {}
    return document


def _document(host: Host, path: str) -> Mapping[str, Any] | None:
    """A file as TOML; raises VendorError for one that cannot be read or understood."""
    import tomllib  # noqa: PLC0415  # only where a runtime is found

    real = host.read_real_path(path)
    if real is None and host.read_link(path) is not None:
        raise DiscoveryError(f"{path} leads to a file that is not to be seen")
    text = host.read_text(real or path)
    try:
        return None if text is None else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"{path}: {error}") from error


def _paths(host: Host, *patterns: str) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        folder, _, name = pattern.rpartition("/")
        if "*" in folder:
            raise DiscoveryError(f"{pattern}: imports of several folders are not read")
        found += (f"{folder}/{n}" for n in host.read_names(folder) if fnmatchcase(n, name))
    if len(found) > _MAX_FILES:
        raise DiscoveryError(f"more than {_MAX_FILES} files of configuration")
    return found


_JUDGES: Mapping[str, Callable[[Host, GoProgram], CdiSupport]] = {
    CONTAINERD: _judge_containerd,
    CRIO: _judge_crio,
}


def read_runtime_version(host: Host, name: str) -> tuple[int, int] | None:
    """Major and minor version of containerd or CRI-O, None where it is not installed or does not
    say."""
    program = _read_program(host, name)
    return _version(program) if program else None


def read_runtime_documents(host: Host, name: str) -> tuple[Mapping[str, Any], ...]:
    """Its files of configuration in the order in which they count; raises VendorError."""
    if name == CONTAINERD:
        return tuple(_containerd_documents(host))
    paths = _paths(host, CRIO_FILE, f"{CRIO_FOLDER}/*")
    return tuple(found for path in paths if (found := _document(host, path)))
