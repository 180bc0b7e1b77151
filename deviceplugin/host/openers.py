"""Which processes have device nodes open (/proc/<pid>/fd; root and the host's processes)."""

from collections.abc import Collection

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host

UNKNOWN = "processes that only root can look into"


def read_openers(host: Host, nodes: Collection[str]) -> tuple[str, ...]:
    """The processes that have one of `nodes` open; UNKNOWN where some cannot be looked into."""
    found, unknown = [], False
    for name in host.read_names("/proc") if nodes else ():
        if not name.isdecimal():
            continue
        try:
            if not _opened(host, name).isdisjoint(nodes):
                found.append(f"process {name}")
        except DiscoveryError:
            unknown |= host.exists(f"/proc/{name}")  # else it has ended meanwhile
    return (*found, UNKNOWN) if unknown else tuple(found)


def _opened(host: Host, process: str) -> set[str]:
    folder = f"/proc/{process}/fd"
    links = [host.read_link(f"{folder}/{name}") for name in host.read_names(folder)]
    return {link for link in links if link}
