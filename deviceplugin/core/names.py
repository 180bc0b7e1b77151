"""Names of extended resources, as the kubelet checks them; pure."""

import re

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
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
