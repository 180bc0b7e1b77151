"""The base of configuration sections, and the quantities that they hold; pure."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

__all__ = [
    "OWN_VERSION",
    "Instance",
    "Isolation",
    "MadeInstance",
    "Places",
    "Scheduling",
    "Section",
    "Size",
    "check_equal",
    "check_made",
    "one_lined",
    "parse_bytes",
    "section_of",
]

Isolation = Literal["none", "memory", "process", "hardware"]


class Places(msgspec.Struct, frozen=True):
    """Where the host's file of a key may lie: in these folders, under one of these names (none:
    any), or exactly here. Whoever may change the configuration gets no further."""

    folders: tuple[str, ...]
    names: tuple[str, ...] = ()
    exactly: tuple[str, ...] = ()


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the configuration: strict, an unknown key is an error.

    `WITHOUT_EFFECT` has keys that are accepted and change nothing, each with the reason:
    `deviceplugin check` and the log name those that a file gives. A check of its own
    (`__post_init__`) raises ValueError(`key: what it must be`), or a sentence about several keys.
    `HOST_PATHS` has the keys that are paths of the host, or lists of them: from there something is
    run, loaded or mounted.
    """

    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = MappingProxyType({})
    HOST_PATHS: ClassVar[Mapping[str, Places]] = MappingProxyType({})

    def without_effect(self) -> Mapping[str, str]:
        """The same for a section where that depends on the values."""
        return self.WITHOUT_EFFECT


def one_lined(document: Any) -> Any:  # what JSON can say
    """A JSON schema whose descriptions are one line: Python 3.13 indents docstrings otherwise."""
    if isinstance(document, list):
        return [one_lined(one) for one in document]
    if not isinstance(document, dict):
        return document
    found = {key: one_lined(value) for key, value in document.items()}
    text = found.get("description")
    return found | {"description": " ".join(text.split())} if isinstance(text, str) else found


# Why a key `version` has no effect.
OWN_VERSION = "it is a mark of your own, nothing depends on it"
# A text that is a quantity of memory; `parse_bytes` reads it.
Size = Annotated[str, Meta(description="a size such as 5GiB")]


SectionT = TypeVar("SectionT", bound=msgspec.Struct)


def section_of(sections: Mapping[str, object], name: str, schema: type[SectionT]) -> SectionT:
    """The decoded section `name`, with its defaults where it is not given.

    Raises TypeError for a value of another schema: two capabilities would have the same section.
    """
    found = sections.get(name)
    if found is None:
        return schema()
    if not isinstance(found, schema):
        raise TypeError(f"section {name!r}: {type(found).__name__} is not a {schema.__name__}")
    return found


class Scheduling(Section, frozen=True):
    """How devices of a section are chosen, and how much isolation they must have to be offered.

    `policy` is any text here: which policies are installed is known to scheduling.py.
    """

    policy: str | None = None
    isolation: Isolation | None = None


class Instance(Section, frozen=True):
    """An entry of a list of sizes: resource name after the slash, memory, compute units."""

    name: str
    memory: Size
    compute_units: int | None = None

    def __post_init__(self) -> None:
        """Check the memory here, where msgspec still knows the key's path."""
        try:
            parse_bytes(self.memory)
        except ValueError as error:
            raise ValueError("memory: a size above zero such as 5GiB") from error

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return parse_bytes(self.memory)


class MadeInstance(Instance, frozen=True):
    """An instance that can be made: so many on each GPU, where its section has `provision`."""

    count: Annotated[int, Meta(ge=1, le=64)] = 1


def check_made(instances: Sequence[MadeInstance], *, provision: bool) -> None:
    """Raise ValueError for a list that says nothing to make, or how much where nothing is made."""
    if provision and not instances:
        raise ValueError("instances: what is made of each GPU, as provision: true asks for")
    counted = [one.name for one in instances if one.count != 1]
    if counted and not provision:
        raise ValueError(
            f"instances: a count beside provision: true alone, which makes them; {counted[0]} has"
            " one"
        )


def check_equal(instances: Sequence[MadeInstance], *, provision: bool) -> None:
    """As `check_made`, for virtual functions: those of a GPU that are made are of one size."""
    check_made(instances, provision=provision)
    if provision and len(instances) > 1:
        raise ValueError(
            "instances: one with a count, since provision makes the virtual functions of a GPU of"
            " one size; other GPUs get other sizes by partitions with select"
        )


_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


_UNITS |= {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


_QUANTITY = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(|[KMGT]i?)B?\s*")


_MAX_BYTES = 1 << 60  # more than any node has, and a number that every counter holds


def parse_bytes(text: str) -> int:
    """Bytes of a quantity such as `5GiB`, `5Gi`, `512MiB` or `4GB` (decimal).

    Raises ValueError for anything else, for a quantity of zero and for one above an EiB.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a memory size such as 5GiB")
    size = round(Decimal(match[1]) * _UNITS[match[2]])  # exact, which float is not from 8 PiB on
    if size == 0:
        raise ValueError(f"{text!r} is a memory size of zero")
    if size > _MAX_BYTES:
        raise ValueError(f"{text!r} is a memory size above 1024 PiB")
    return size
