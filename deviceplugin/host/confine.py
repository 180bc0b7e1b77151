"""Takes rights from this process, for good: what it starts or loads has no more than it needs.

A kernel or a sandbox that has not one of these calls keeps nobody from serving.
"""

import ctypes
import resource

_SET_NO_NEW_PRIVS, _CAPBSET_DROP, _CAP_AMBIENT, _CLEAR_ALL = 38, 24, 47, 4  # linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_MAX_CAPABILITY = 63


def refuse_new_rights() -> None:
    """No program that this process or a child runs gets rights by its set-user-id bit or its file
    capabilities (Documentation/userspace-api/no_new_privs.rst)."""
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def give_up_capabilities() -> None:
    """All of them. User 0 keeps what file modes give it."""
    for number in range(_MAX_CAPABILITY + 1):
        if not _call("prctl", _CAPBSET_DROP, number, 0, 0, 0):
            break  # the kernel knows no more, or we may not: then there is no_new_privs
    _call("prctl", _CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice 32 bits each
    _call("capset", header, none)


def limit(descriptors: int, file_bytes: int) -> None:
    """How many descriptors this process may have and how much it may write to a file; no core."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors if most == resource.RLIM_INFINITY else min(descriptors, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _call(function: str, *arguments: object) -> bool:
    """Whether it succeeded."""
    return bool(getattr(ctypes.CDLL(None), function)(*arguments) == 0)
