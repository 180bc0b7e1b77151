"""The parts of a demo scenario: values only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from deviceplugin.vendor import Vendor


class Step(Struct, frozen=True):
    """Something that happens to the simulated hardware: `act` does it, `text` describes it.

    `allocatable` is the result; `request` is what another pod then asks for, if any.
    """

    text: str
    act: Callable[[], None]
    allocatable: Mapping[str, int]
    request: Mapping[str, int] = field(default_factory=dict)


class Node(Struct, frozen=True):
    """The result of `prepare`: the vendors that discover the node, what happens to it, and sections
    of its configuration."""

    vendors: Sequence[Vendor]
    steps: Sequence[Step]
    sections: Mapping[str, Any] = field(default_factory=dict)


class Scenario(Struct, frozen=True):
    """A simulated node: `prepare(root)` creates it, `capacity` is what it then has.

    `request` is what the example pod asks for, `after` what the node has after its steps, where
    that is something else.
    """

    title: str
    prepare: Callable[[Path], Node]
    capacity: Mapping[str, int]
    request: Mapping[str, int]
    after: Mapping[str, int] | None = None
