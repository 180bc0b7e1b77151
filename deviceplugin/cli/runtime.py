"""The command `runtime`: what a container runtime needs in its configuration, and what it has.

Nothing is written: a runtime's configuration has its owner, and it restarts with every change.
Sources: containerd's docs/cri/config.md (version 3 from 2.0, drop-ins in conf.d from 2.2),
crio.conf.d(5), Docker's daemon.json.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from deviceplugin.errors import ConfigError, VendorError
from deviceplugin.host import Host
from deviceplugin.host.runtimes import (
    CONTAINERD,
    CONTAINERD_FILE,
    CRIO,
    CRIO_FOLDER,
    PROGRAM_FOLDERS,
    read_runtime_documents,
    read_runtime_version,
)

NAMES: Mapping[str, str] = {"containerd": CONTAINERD, "crio": CRIO, "docker": "Docker"}
CDI_DIRS = ["/etc/cdi", "/var/run/cdi"]
DOCKER_FILE = "/etc/docker/daemon.json"
_VENDOR_RUNTIMES = {"nvidia": "nvidia-container-runtime", "amd": "amd-container-runtime"}
_V2, _V3 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
_DROP_IN = "/etc/containerd/conf.d/deviceplugin.toml"
_WHOLE = "1.x replaces a whole plugin table by an imported one: put it into this file"
_INTEL = (
    "Intel has no container runtime of its own (intel-container-runtime does not exist): its GPUs"
    " need none"
)
Document = dict[str, Any]
_BY_DEFAULT: Document = {"cdi_spec_dirs": CDI_DIRS}
Keys = tuple[str, ...]


class Advice(Struct, frozen=True, kw_only=True):
    """A file, what belongs into it as a document, what a person should know of it, and the
    configuration that is there now, in the order in which it counts."""

    file: str
    wanted: Document
    notes: tuple[str, ...] = ()
    found: tuple[Mapping[str, Any], ...] = ()


def advice(host: Host, name: str) -> Advice:
    """For the version that is installed; raises ConfigError for a runtime that cannot do it."""
    try:
        if name == "docker":
            return _docker(host)
        return _containerd(host) if name == "containerd" else _crio(host)
    except VendorError as error:
        raise ConfigError(name, "its configuration", f"readable: {error}") from error


def rendered(told: Advice) -> str:
    """The file's text, with notes as comments; JSON has none, so they stand before it."""
    comments = "".join(f"# {note}\n" for note in (f"for {told.file}", *told.notes))
    if told.file.endswith(".json"):
        return comments + json.dumps(told.wanted, indent=2) + "\n"
    return comments + "".join(f"{line}\n" for line in _toml(told.wanted, ()))


def differences(told: Advice) -> list[str]:
    """What is not there as it should be, one line each."""
    return [
        f"{'.'.join(keys)} is {_shown(now)}, should be {json.dumps(value)}"
        for keys, value in _leaves(told.wanted, ())
        if keys != ("version",) and not _fits(now := _last(told.found, keys), value)
    ]


def _fits(now: object, value: object) -> bool:
    """A list may have more than ours."""
    if isinstance(now, list) and isinstance(value, list):
        return {str(one).rstrip("/") for one in value} <= {str(one).rstrip("/") for one in now}
    return now == value


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value)


def _containerd(host: Host) -> Advice:
    version = read_runtime_version(host, CONTAINERD)
    if version is not None and version < (1, 7):
        text = f"{version[0]}.{version[1]} of this node, which honours no CDI names"
        raise ConfigError("containerd", text, "containerd 1.7 or newer")
    first = version is not None and version < (2, 0)
    plugin = _V2 if first else _V3
    file, note = (CONTAINERD_FILE, _WHOLE) if first else (_DROP_IN, _imports(version))
    return Advice(
        file=file,
        wanted={"version": 2 if first else 3, "plugins": {plugin: _cri(host)}},
        notes=tuple(filter(None, (_found(version), note, _INTEL))),
        found=({"plugins": {plugin: _BY_DEFAULT | {"enable_cdi": not first}}}, *_plugins(host)),
    )


def _cri(host: Host) -> Document:
    """The plugin that runs pods."""
    runtimes = {
        name: {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": path}}
        for name, path in _installed(host)
    }
    cri: Document = {"enable_cdi": True, "cdi_spec_dirs": CDI_DIRS}
    return cri | ({"containerd": {"runtimes": runtimes}} if runtimes else {})


def _imports(version: tuple[int, int] | None) -> str:
    if version is not None and version >= (2, 2):
        return ""
    return f'before 2.2 {CONTAINERD_FILE} needs: imports = ["{_DROP_IN.rpartition("/")[0]}/*.toml"]'


def _plugins(host: Host) -> Iterator[Mapping[str, Any]]:
    """Under both names of the plugin: containerd 2 reads files of version 2 too."""
    for document in read_runtime_documents(host, CONTAINERD):
        tables = document.get("plugins")
        plugins = tables if isinstance(tables, dict) else {}
        yield {"plugins": {_V3: plugins.get(_V2), **plugins}}


def _crio(host: Host) -> Advice:
    runtimes = {
        name: {"runtime_path": path, "runtime_type": "oci"} for name, path in _installed(host)
    }
    section: Document = {"cdi_spec_dirs": CDI_DIRS} | ({"runtimes": runtimes} if runtimes else {})
    return Advice(
        file=f"{CRIO_FOLDER}/99-deviceplugin.conf",
        wanted={"crio": {"runtime": section}},
        notes=(_found(read_runtime_version(host, CRIO)), "CDI itself has no switch", _INTEL),
        found=({"crio": {"runtime": _BY_DEFAULT}}, *read_runtime_documents(host, CRIO)),
    )


def _docker(host: Host) -> Advice:
    runtimes = {name: {"path": path, "runtimeArgs": []} for name, path in _installed(host)}
    wanted: Document = {"features": {"cdi": True}, "cdi-spec-dirs": CDI_DIRS}
    text = host.read_text(DOCKER_FILE)
    try:
        found = json.loads(text) if text else {}
    except ValueError as error:
        raise ConfigError(DOCKER_FILE, "its content", f"JSON: {error}") from error
    return Advice(
        file=DOCKER_FILE,
        wanted=wanted | ({"runtimes": runtimes} if runtimes else {}),
        notes=("the kubelet does not use Docker; merge it into what the file has", _INTEL),
        found=({"cdi-spec-dirs": CDI_DIRS}, found) if isinstance(found, dict) else (),
    )


def _found(version: tuple[int, int] | None) -> str:
    if version is None:
        return "its version is not known: this is for the newest"
    return f"version {version[0]}.{version[1]} is installed"


def _installed(host: Host) -> Iterator[tuple[str, str]]:
    for name, program in _VENDOR_RUNTIMES.items():
        paths = (f"{folder}/{program}" for folder in PROGRAM_FOLDERS)
        if path := next(filter(host.exists, paths), None):
            yield name, path


def _leaves(document: Mapping[str, Any], before: Keys) -> Iterator[tuple[Keys, object]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*before, key))
        else:
            yield (*before, key), value


def _last(documents: Sequence[Mapping[str, Any]], keys: Keys) -> object:
    """The value that counts: that of the last file that has one."""
    found: object = None
    for document in documents:
        value: object = document
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        found = found if value is None else value
    return found


def _toml(document: Mapping[str, Any], path: Keys) -> Iterator[str]:
    """Values of a table first, then the tables in it."""
    values = {key: value for key, value in document.items() if not isinstance(value, dict)}
    if path and values:
        yield ""
        yield f"[{'.'.join(map(_key, path))}]"
    yield from (f"{_key(key)} = {json.dumps(value)}" for key, value in values.items())
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _toml(value, (*path, key))


def _key(text: str) -> str:
    return text if text.replace("_", "").replace("-", "").isalnum() else json.dumps(text)
