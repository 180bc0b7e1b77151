"""Which processes have device nodes open (root and the host's processes)."""

from collections.abc import Collection

from deviceplugin.host.host import Host
from deviceplugin.host.open_files import read_open_files

UNKNOWN = "processes that only root can look into"


def read_openers(host: Host, nodes: Collection[str]) -> tuple[str, ...]:
    """The processes that have one of `nodes` open; UNKNOWN where some cannot be looked into."""
    found, unknown = [], False
    for pid, files in read_open_files(host) if nodes else ():
        if files is None:
            unknown = True
        elif not set(files.values()).isdisjoint(nodes):
            found.append(f"process {pid}")
    return (*found, UNKNOWN) if unknown else tuple(found)
