"""Which boot of the kernel this is."""

from deviceplugin.host.host import Host

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def read_boot_id(host: Host) -> str | None:
    """The kernel's id of this boot (man 4 random), None where it cannot be read.

    Read below the root, else as this process sees it: a container has the host's kernel, and its
    own /proc has the same id where the host's is not mounted. Raises DiscoveryError.
    """
    return host.read_text(BOOT_ID) or Host().read_text(BOOT_ID) or None
