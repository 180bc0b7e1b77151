"""What processes have open: the links of /proc/PID/fd.

Another user's processes are seen with CAP_SYS_PTRACE alone. Blocking, and not cheap: the links of
all descriptors of the node are read.
"""

from collections.abc import Iterator, Mapping

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host


def read_open_files(host: Host) -> Iterator[tuple[int, Mapping[str, str] | None]]:
    """Each process with the targets of its descriptors, None where only root can look into it; a
    process that ends meanwhile is left out. Raises DiscoveryError where /proc cannot be read."""
    for name in host.read_names("/proc"):
        if not name.isdecimal():
            continue
        try:
            yield int(name), _files(host, f"/proc/{name}/fd")
        except DiscoveryError:
            if host.exists(f"/proc/{name}"):
                yield int(name), None


def _files(host: Host, folder: str) -> Mapping[str, str]:
    links = ((name, host.read_link(f"{folder}/{name}")) for name in host.read_names(folder))
    return {name: target for name, target in links if target}
