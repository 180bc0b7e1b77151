"""The archive for support: bounded, without what identifies the machine, its pods or secrets; pure
but for writing the one file."""

import gzip
import io
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deviceplugin.diagnose.redact import Redactor

MAX_FILE_BYTES = 1 << 20
MAX_BYTES = 16 << 20
FOLDER = "deviceplugin-support"
_POD_KEYS = frozenset({"namespace", "pod", "container"})
_SECRET = re.compile(r"(?i)(token|password|passwd|secret|credential|api_?key|authorization|cookie)")
# An id of a GPU that is no UUID: AMD's unique id, a GUID of a fabric.
_LONG_ID = re.compile(r"\b(?:0x)?([0-9a-fA-F]{16})\b")
REMOVED = "(removed)"
_CUT = b"\n(cut: a file of this archive has at most 1 MiB)\n"


def without_secrets(value: Any, redactor: Redactor) -> Any:
    """A document without values of keys that sound secret, and with a digest for each pod,
    namespace and container: what was equal stays equal."""
    if isinstance(value, Mapping):
        return {key: _safe(str(key), one, redactor) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one, redactor) for one in value]
    return value


def _safe(key: str, value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str) and value and key in _POD_KEYS:
        return f"{key}-{redactor.host_name(value).removeprefix('node-')}"
    # A switch or a number is no secret, whatever its key.
    if isinstance(value, str) and value and _SECRET.search(key):
        return REMOVED
    return without_secrets(value, redactor)


def packed(texts: Mapping[str, str], redactor: Redactor) -> bytes:
    """The archive (.tar.gz) of files by name; the same files make the same bytes.

    What would make it larger than MAX_BYTES is left out; the file `MANIFEST` names it, and says how
    many values were replaced.
    """
    redactor.learn(texts.values())
    found = {number for text in texts.values() for number in _LONG_ID.findall(text)}
    redactor.learn(f"/unique_id = {number}" for number in sorted(found))
    left, kept, omitted = MAX_BYTES, {}, []
    for name, text in sorted(texts.items()):
        content = _bounded(redactor.text(text).encode())
        if len(content) > left:
            omitted.append(name)
            continue
        kept[redactor.text(name)] = content
        left -= len(content)
    kept["MANIFEST"] = _manifest(kept, omitted, redactor)
    return gzip.compress(_tar(kept), mtime=0)


def _bounded(content: bytes) -> bytes:
    if len(content) <= MAX_FILE_BYTES:
        return content
    return content[: MAX_FILE_BYTES - len(_CUT)] + _CUT


def _manifest(kept: Iterable[str], omitted: Iterable[str], redactor: Redactor) -> bytes:
    lines = ["Files:", *(f"  {name}" for name in sorted(kept)), "Left out for its size:"]
    lines += [f"  {name}" for name in omitted] or ["  nothing"]
    lines += ["Values replaced by digests:"]
    lines += [f"  {kind}: {n}" for kind, n in sorted(redactor.counts.items())] or ["  none"]
    lines += ["Not in it: logs of the daemon, of the kubelet and of the kernel."]
    return "\n".join([*lines, ""]).encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write_new(path: Path, content: bytes) -> None:
    """Write a file that was not there, for its owner alone; raises OSError, also where something
    is at the path already. A file that could not be written whole is removed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
