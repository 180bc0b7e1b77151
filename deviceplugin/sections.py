"""Pieces of configuration that several vendors' sections have in common; decoded by msgspec."""

from typing import Literal

import msgspec

from deviceplugin.units import parse_bytes

Policy = Literal[
    "aligned",
    "packed",
    "spread",
    "fair_share",
    "round_robin",
    "priority",
    "real_time",
    "proximity",
]
Isolation = Literal["none", "memory", "process", "hardware"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the configuration: strict, an unknown key is an error."""


class Scheduling(Section, frozen=True):
    """How devices of a section are chosen, and what isolation a user insists on."""

    policy: Policy | None = None
    isolation: Isolation | None = None


class Instance(Section, frozen=True):
    """A slice that a list pins: its name after the slash, its memory and what it computes with."""

    name: str
    memory: str
    compute_units: int | None = None

    def __post_init__(self) -> None:
        """Check the memory where msgspec can still tell the key's path."""
        try:
            parse_bytes(self.memory)
        except ValueError as error:
            raise ValueError("memory: a memory size above zero such as 5GiB") from error

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return parse_bytes(self.memory)
