"""Reads where what cannot be read is as if it were not there: one value of many, and no fault."""

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host


def optional_names(host: Host, path: str) -> tuple[str, ...]:
    """The names in a directory; none where it cannot be read."""
    try:
        return host.read_names(path)
    except DiscoveryError:
        return ()


def optional_text(host: Host, path: str) -> str | None:
    """The stripped text of a file; None where it cannot be read."""
    try:
        return host.read_text(path)
    except DiscoveryError:
        return None


def optional_int(host: Host, path: str) -> int | None:
    """The integer in a file; None where it cannot be read, or holds anything else."""
    try:
        return host.read_int(path)
    except DiscoveryError:
        return None
