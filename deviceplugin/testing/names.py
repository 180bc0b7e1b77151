"""The kubelet's rules for resource names (its helper IsExtendedResourceName), nothing else."""

import re

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_QUOTA_PREFIX = "requests."
_PREFIX_MAX = 253
_NAME_MAX = 63


def is_extended_resource_name(name: str) -> bool:
    """Tell whether the kubelet lets a plugin register this resource name."""
    if "/" not in name or "kubernetes.io/" in name or name.startswith(_QUOTA_PREFIX):
        return False
    return _is_qualified(_QUOTA_PREFIX + name)


def _is_qualified(name: str) -> bool:
    prefix, _, rest = name.partition("/")
    return (
        len(prefix) <= _PREFIX_MAX
        and _SUBDOMAIN.fullmatch(prefix) is not None
        and len(rest) <= _NAME_MAX
        and _NAME.fullmatch(rest) is not None
    )
