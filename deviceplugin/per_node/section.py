"""The configuration section `per_node`; pure."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.schema import Section

LABEL = "deviceplugin.config"


class Choice(Section, frozen=True):
    """Nodes whose names are like `name` (`edge-*`) use the configuration `use`."""

    name: str
    use: str


class PerNodeSection(Section, frozen=True):
    """Named `configurations`, of which a node has one on top of all else: that of its `label`, else
    of the first of `nodes` that is like its name, else `default`.

    `labels: file` reads the node's labels from the file `node-labels` beside the configuration,
    `api` from the API server, with the rights of `deploy/components/config-label`.
    """

    labels: Literal["file", "api"] = "file"
    label: str = LABEL
    default: str | None = None
    nodes: tuple[Choice, ...] = ()
    configurations: Mapping[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        """Refuse names of which there is no configuration, whatever node this is."""
        known = ", ".join(sorted(self.configurations)) or "none"
        if self.default is not None and self.default not in self.configurations:
            raise ValueError(f"default: one of per_node.configurations ({known})")
        for use in (choice.use for choice in self.nodes):
            if use not in self.configurations:
                raise ValueError(
                    f"nodes: `use` one of per_node.configurations ({known}), not {use}"
                )
        if not self.label:
            raise ValueError(f"label: the name of a node's label, such as {LABEL}")

    @property
    def in_force(self) -> "PerNodeSection":
        """What is left of it when the choice is made."""
        return replace(self, default=None, nodes=(), configurations={})


class Chosen(Struct, frozen=True):
    """The name of the configuration, None for none, and what decided."""

    name: str | None
    by: str


def choose(section: PerNodeSection, node: str, labels: Mapping[str, str]) -> Chosen:
    """The configuration of a node; its label may name one that does not exist."""
    if named := labels.get(section.label):
        return Chosen(named, f"the label {section.label}")
    for choice in section.nodes:
        if fnmatchcase(node, choice.name):
            return Chosen(choice.use, f"the name {node}, which is like {choice.name}")
    return Chosen(section.default, "default" if section.default else "nothing")


SECTIONS: Mapping[str, Any] = {"per_node": PerNodeSection}
