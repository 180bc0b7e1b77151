"""What Kubernetes takes for a label (apimachinery, validation.IsQualifiedName and
IsValidLabelValue), and texts made into that; pure."""

import re
from collections.abc import Iterable, Mapping

MAX_NAME, MAX_VALUE, MAX_PREFIX = 63, 63, 253
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DROPPED = re.compile(r"[^A-Za-z0-9_. -]")
_RULE = "letters, digits, '-', '_' and '.', from a letter or digit to another"
# Kubernetes' own domains: of these Node Feature Discovery takes its own alone.
_RESERVED = ("kubernetes.io", "k8s.io")
_FREE = ("feature.node.kubernetes.io", "profile.node.kubernetes.io")


def value_problem(text: str) -> str | None:
    """Why `text` is not a label's value, None where it is one; an empty text is one."""
    if len(text) > MAX_VALUE:
        return f"it has more than {MAX_VALUE} characters"
    if text and not _WORD.fullmatch(text):
        return f"it is not {_RULE}"
    return None


def key_problem(key: str) -> str | None:
    """Why `key` is not a label's name, or not one that we may write; None where it is one."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= MAX_PREFIX and _SUBDOMAIN.fullmatch(prefix)):
        return "before the slash there is no lower-case DNS subdomain"
    if _in(prefix, _RESERVED) and not _in(prefix, _FREE):
        return f"{prefix} is Kubernetes' own"
    if len(name) > MAX_NAME:
        return f"its name has more than {MAX_NAME} characters"
    return None if _WORD.fullmatch(name) else f"its name is not {_RULE}"


def _in(domain: str, of: Iterable[str]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in of)


def label_value(text: str | None) -> str | None:
    """The text as a value: blanks become '-', what a value cannot hold is dropped, what is too long
    is cut; None where nothing is left. `NVIDIA H100 80GB HBM3` is `NVIDIA-H100-80GB-HBM3`."""
    words = "-".join(_DROPPED.sub("", text or "").split())
    return words.strip("-_.")[:MAX_VALUE].rstrip("-_.") or None


def slug(text: str | None) -> str | None:
    """The same in lower case, the registered-trade-mark words of names left out."""
    plain = (text or "").replace("(R)", "").replace("(TM)", "").lower()
    return label_value(plain.replace("_", "-"))


def checked(labels: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The labels that Kubernetes takes, in order, and why it would not take the others."""
    problems = {
        key: problem
        for key, value in labels.items()
        if (problem := key_problem(key) or value_problem(value))
    }
    return {key: labels[key] for key in sorted(labels.keys() - problems.keys())}, problems


def merged(*sets: Mapping[str, str | None]) -> dict[str, str]:
    """All labels that have a value; an earlier set counts."""
    return {k: v for one in reversed(sets) for k, v in one.items() if v is not None}
