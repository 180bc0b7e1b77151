"""Which optional parts of the contract a vendor takes up, and names that are misspelt ones.

Optional methods are found by their names: without this check a misspelt one would be no method at
all, and nobody would ever be told.
"""

import inspect
from collections.abc import Collection, Iterable, Mapping
from types import FunctionType, MethodType

from msgspec import Struct

from deviceplugin.vendor import OPTIONAL_ATTRIBUTES, OPTIONAL_METHODS, Vendor, VendorModule

REQUIRED_METHODS = ("discover", "container_edits")
REQUIRED_ATTRIBUTES = ("NAME", "SECTIONS")
_LONG = 8  # letters; of a longer name two may be wrong
_CALLABLE = (FunctionType, MethodType, staticmethod, classmethod)


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a vendor takes up of the contract's optional methods and its module's attributes;
    `others` are its public methods that are not a part of the contract. All in order."""

    methods: tuple[str, ...]
    attributes: tuple[str, ...]
    others: tuple[str, ...]


def capabilities_of(module: VendorModule, vendor: Vendor) -> Capabilities:
    """What the daemon finds of `vendor` and of the module that made it."""
    methods = public_methods(vendor)
    return Capabilities(
        methods=tuple(sorted(methods & set(OPTIONAL_METHODS))),
        attributes=tuple(name for name in OPTIONAL_ATTRIBUTES if hasattr(module, name)),
        others=tuple(sorted(methods - {*OPTIONAL_METHODS, *REQUIRED_METHODS})),
    )


def public_methods(vendor: object) -> set[str]:
    """The names of its methods without an underscore; nothing of the vendor's own code runs."""
    names = (name for name in dir(vendor) if not name.startswith("_"))
    return {n for n in names if isinstance(inspect.getattr_static(vendor, n, None), _CALLABLE)}


def method_problem(vendor: object) -> str | None:
    """Which method is missing or misspelt, None where the vendor has what it must."""
    methods = public_methods(vendor)
    if near := _misspelt(methods, (*REQUIRED_METHODS, *OPTIONAL_METHODS)):
        name, meant = near
        return f"its method {name}() is not a part of the contract: did you mean {meant}()?"
    for name in REQUIRED_METHODS:
        if not callable(getattr(vendor, name, None)):
            return f"it has no method {name}()"
    return None


def attribute_problem(module: object) -> str | None:
    """Which attribute of a vendor module is missing or misspelt, None where it has what it must."""
    there = {n for n in getattr(module, "__dict__", {}) if n.isupper() and n[0] != "_"}
    if near := _misspelt(there, (*REQUIRED_ATTRIBUTES, *OPTIONAL_ATTRIBUTES)):
        name, meant = near
        return f"its {name} is not a part of the contract: did you mean {meant}?"
    for name in REQUIRED_ATTRIBUTES:
        if not hasattr(module, name):
            return f"it has no {name}"
    if not isinstance(module.SECTIONS, Mapping):  # type: ignore[attr-defined]  # it is there
        return "its SECTIONS is not a mapping"
    return None


def _misspelt(names: Collection[str], known: Iterable[str]) -> tuple[str, str] | None:
    """The first name that is near to a known one which is not there itself, and that one."""
    missing = [name for name in known if name not in names]
    near = (
        (name, meant)
        for name in sorted(set(names) - set(known))
        for meant in missing
        if _distance(_letters(name), _letters(meant)) <= (1 if len(meant) < _LONG else 2)
    )
    return next(near, None)


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


def _distance(one: str, other: str) -> int:
    """How many letters have to be changed, put in or left out (Levenshtein); the standard library's
    difflib would be loaded by every `run`."""
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        before, row[0] = row[0], at
        for to, wanted in enumerate(other, 1):
            before, row[to] = (
                row[to],
                min(row[to] + 1, row[to - 1] + 1, before + (letter != wanted)),
            )
    return row[-1]
