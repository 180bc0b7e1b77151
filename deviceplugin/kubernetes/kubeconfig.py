"""Reads a kubeconfig: which API server, and as whom. What runs a program for its token is refused.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deviceplugin.files.reading import read_regular
from deviceplugin.kubernetes.access import Access, ApiError, Credentials
from deviceplugin.names import one_line

MAX_BYTES = 1 << 18  # PyYAML takes seconds for deep nesting of more
VARIABLE = "KUBECONFIG"
_CLUSTER = {"server", "certificate-authority", "certificate-authority-data", "extensions"}
_USER = {
    *("token", "tokenFile", "extensions"),
    *("client-certificate", "client-certificate-data", "client-key", "client-key-data"),
}
_WHY_NOT = {
    "exec": "no program is run for credentials",
    "auth-provider": "no program is run for credentials",
    "insecure-skip-tls-verify": "the server's certificate is always verified",
    "proxy-url": "no proxy is used",
}
Document = Mapping[str, Any]


def read_kubeconfig(path: str) -> Access:
    """What its current context says; raises ApiError, which names the key."""
    import yaml  # noqa: PLC0415  # in a pod there is no such file

    try:
        document = yaml.safe_load(_whole(Path(path)))
    except yaml.YAMLError as error:  # its text has lines of the file, which may be a token
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ApiError(one_line(f"{VARIABLE}: {path}: it is not YAML{line}")) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ApiError(one_line(f"{VARIABLE}: {path}: {error}")) from error
    if not isinstance(document, dict):
        raise _wrong("kind", type(document).__name__, "a file of the kind Config")
    return _access(document, Path(path).parent)


def _access(document: Document, directory: Path) -> Access:
    context = _named(document, "contexts", "context", document.get("current-context"))
    cluster = _named(document, "clusters", "cluster", context.get("cluster"))
    user = _named(document, "users", "user", context.get("user"))
    _known("cluster", cluster, _CLUSTER)
    _known("user", user, _USER)
    host, port = _address(_text(cluster, "server"))
    return Access(host=host, port=port, credentials=_credentials(cluster, user, directory))


def _address(server: str) -> tuple[str, int]:
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port or 443
    except ValueError:  # a port that is no number, half an IPv6 address
        host, port = None, 0
    if not host or parts.scheme != "https" or parts.path.strip("/"):
        raise _wrong("server", server, "https://HOST:PORT")
    return host, port


def _credentials(cluster: Document, user: Document, directory: Path) -> Credentials:
    return Credentials(
        authority=_content(cluster, "certificate-authority", directory),
        token=_text(user, "token"),
        token_file=str(directory / user["tokenFile"]) if _text(user, "tokenFile") else "",
        certificate=_content(user, "client-certificate", directory),
        key=_content(user, "client-key", directory),
    )


def _named(document: Document, kinds: str, kind: str, name: object) -> Document:
    entries = document.get(kinds)
    found = [
        entry.get(kind)
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and entry.get("name") == name
    ]
    if not found or not isinstance(found[0], dict):
        raise _wrong(kinds, name, f"the name of an entry of {kinds}")
    return found[0]


def _known(kind: str, entry: Document, known: set[str]) -> None:
    """Refuse what would be passed over: a proxy, a program that makes tokens, another name."""
    for key in entry.keys() - known:
        why = f"; {_WHY_NOT[key]}" if key in _WHY_NOT else ""
        raise _wrong(f"{kind}.{key}", "set", f"one of {', '.join(sorted(known))}{why}")


def _text(entry: Document, key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or not value.isprintable():
        raise _wrong(key, "***", "text in one line")  # it may be a token: it is not shown
    return value


def _whole(path: Path) -> bytes:
    """Raises OSError, ValueError for what is too large: its beginning would be something else."""
    content = read_regular(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return content


def _content(entry: Document, key: str, directory: Path) -> bytes:
    """A PEM text, from the entry itself or from the file that it names; empty without both."""
    data, path = _text(entry, f"{key}-data"), _text(entry, key)
    try:
        if data:
            return base64.b64decode(data, validate=True)
        return _whole(directory / path) if path else b""
    except binascii.Error as error:
        raise _wrong(f"{key}-data", "set", "base64") from error
    except (OSError, ValueError) as error:
        raise ApiError(one_line(f"{VARIABLE}: {key}: {path}: {error}")) from error


def _wrong(key: str, value: object, expected: str) -> ApiError:
    return ApiError(one_line(f"{VARIABLE}: {key}: {value!r} is not valid, expected {expected}"))
