"""Where two documents differ, by dotted key; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """A key, as `rules[0].offers`, with its value before and after; None where it was not there."""

    key: str
    before: object
    after: object


def differences(before: object, after: object, key: str = "") -> Iterator[Change]:
    """The changes from one document to the other, in the order of their keys.

    Lists of one length are compared item by item, of different lengths as a whole.
    """
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(before.get(name), after.get(name), inner)
    elif _are_alike(before, after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):  # type: ignore[call-overload]  # both are lists
            yield from differences(old, new, f"{key}[{index}]")
    else:
        yield Change(key, before, after)


def _are_alike(before: object, after: object) -> bool:
    if isinstance(before, str) or isinstance(after, str):
        return False
    if not isinstance(before, Sequence) or not isinstance(after, Sequence):
        return False
    return len(before) == len(after)
