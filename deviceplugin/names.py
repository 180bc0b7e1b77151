"""Names of resources, ids of devices, paths of sockets, lines of text: what can be used; pure."""

import re
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from deviceplugin.files.text import MAX_LINE, one_line

__all__ = [
    "MAX_ID",
    "MAX_LINE",
    "MAX_SOCKET_PATH",
    "cdi_device_problem",
    "cdi_kind_problem",
    "cdi_name_problem",
    "id_problem",
    "name_problem",
    "one_line",
    "profile_of",
    "short_digest",
    "size_class",
    "socket_path_problem",
]

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


# An id stands in lists separated by commas, in paths inside containers, in logs, and as a name in a
# CDI file, all of which a runtime refuses for one bad name.
MAX_ID = 63


_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")


MAX_SOCKET_PATH = 107  # man 7 unix: sun_path has 108 bytes, the last one is zero


_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def name_problem(name: str) -> str | None:  # noqa: PLR0911  # one return a rule
    """Why `name` is no extended resource (IsExtendedResourceName), None where it is one."""
    prefix, slash, rest = name.partition("/")
    if not slash:
        return "it has no domain before a slash"
    if "kubernetes.io/" in name:
        return "the domain kubernetes.io is reserved"
    if name.startswith("requests."):
        return "it starts with 'requests.'"
    if len(prefix) > 244 or not _SUBDOMAIN.fullmatch(prefix):
        return "the domain is not a lower-case DNS subdomain of at most 244 characters"
    if len(rest) > 63:
        return "the part after the slash has more than 63 characters"
    if not _NAME.fullmatch(rest):
        return "the part after the slash has characters other than letters, digits, '-', '_', '.'"
    return None


_MIG = re.compile(r"mig-([0-9]+g\.[0-9]+gb(?:-me)?)((?:\.[a-z]+)*)")


def profile_of(name: str) -> str | None:
    """The MIG profile of a resource: `mig-1g.5gb.me` is of `1g.5gb+me`; None where it is none."""
    found = _MIG.fullmatch(name)
    return found and found[1] + found[2].replace(".", "+", 1)


def id_problem(text: str) -> str | None:
    """Why `text` is no device id, None where it is one."""
    if not text:
        return "it is empty"
    if len(text) > MAX_ID:
        return f"it has more than {MAX_ID} characters"
    if not _ID.fullmatch(text):
        return "it is not letters, digits, '_', '-', '.', ':' from a letter or digit to another"
    return None


_CDI_PART = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


def cdi_kind_problem(kind: str) -> str | None:
    """Why `kind` is not a CDI kind (`vendor.example/class`), None where it is one.

    For a kind that is not one a runtime refuses the whole file (container-device-interface,
    pkg/parser, ValidateVendorName and ValidateClassName).
    """
    vendor, slash, name = kind.partition("/")
    if not slash:
        return "it has no vendor before a slash"
    for part, text in (("vendor", vendor), ("class", name)):
        if not _CDI_PART.fullmatch(text):
            return f"its {part} is not a letter with letters, digits, '_', '-', '.' after it"
    return None


def cdi_name_problem(name: str) -> str | None:
    """Why `name` is not the name of a device in a CDI file, None where it is one (ibid.,
    ValidateDeviceName)."""
    if not _ID.fullmatch(name):
        return "it is not letters, digits, '_', '-', '.', ':' from a letter or digit to another"
    return None


def cdi_device_problem(text: str) -> str | None:
    """Why `text` is not a device's full CDI name (`vendor.example/class=name`), None where it
    is one."""
    kind, equals, name = text.partition("=")
    if not equals:
        return "it has no '=' between kind and name"
    return cdi_kind_problem(kind) or cdi_name_problem(name)


def socket_path_problem(path: str) -> str | None:
    """Why no unix socket can lie at `path`, None where one can."""
    if len(path.encode(errors="surrogateescape")) > MAX_SOCKET_PATH:
        return f"a socket path has at most {MAX_SOCKET_PATH} bytes"
    return None


def size_class(memory_bytes: int) -> str:
    """The nearest GiB as `4gb`, below half a GiB the nearest MiB as `480mb`; never floored.

    A slice that holds 3.94 GiB after the driver's reserve is what people know as 4 GB.
    """
    gib = (memory_bytes + (1 << 29)) >> 30
    if gib:
        return f"{gib}gb"
    return f"{(memory_bytes + (1 << 19)) >> 20}mb"


def short_digest(text: str) -> str:
    """16 hexadecimal digits that are always the same for the same text (SHA-256)."""
    return str(_sha256()(text.encode()).hexdigest()[:16])


def _sha256() -> Callable[[bytes], Any]:
    """Python's own, as the module `random` takes it: hashlib loads OpenSSL, which is 4 MiB."""
    for module in ("_sha2", "_sha256"):  # from 3.12 on, before
        with suppress(ImportError):
            return import_module(module).sha256  # type: ignore[no-any-return]
    return import_module("hashlib").sha256  # type: ignore[no-any-return]
