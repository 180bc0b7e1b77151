"""The configuration of this node among those of the fleet: what the section `per_node` chooses, put
on top of the rest. Loaded where a file has that section alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from deviceplugin.config.nvidia_v1 import translated
from deviceplugin.config.pieces import merge
from deviceplugin.config.schema import Raw, decode_sections
from deviceplugin.errors import ConfigError
from deviceplugin.per_node.labels import NAME, LabelsError, read_labels
from deviceplugin.per_node.section import SECTIONS, Chosen, PerNodeSection, choose
from deviceplugin.schema import section_of

_PLACE = "per_node.configurations"
# What decides about the choice, or is told before any file is read.
_NOT_OF_ONE = ("per_node", "node_name")


class Fleet(msgspec.Struct, frozen=True):
    """What this node has, by what, and what each named configuration amounts to; `notes` say what
    has no effect of the chosen one."""

    raw: Raw
    chosen: Chosen
    variants: Mapping[str, Raw]
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The choice as a line, empty where there is none to make."""
        return f"{self.chosen.name or 'none'}, by {self.chosen.by}" if self.variants else ""


def of_node(raw: Raw, node: str, state_dir: Path, beside: Path) -> Fleet:
    """The node's configuration, with one of NVIDIA's plugin in our terms; `beside` is where the
    files are. Raises ConfigError, also for a label that names none of them."""
    section = section_of(decode_sections(raw, SECTIONS), "per_node", PerNodeSection)
    known = section.configurations
    if not known:  # the daemon's own copy, in which the choice is made
        return Fleet(raw, Chosen(None, "nothing"), {})
    _check(known)
    ours = {name: translated(known[name]) for name in sorted(known)}
    variants = {name: merge(raw, own) for name, (own, _) in ours.items()}
    chosen = choose(section, node, _labels(section, beside, state_dir))
    if chosen.name is None:
        return Fleet(raw, chosen, variants)
    if chosen.name not in variants:
        names = ", ".join(variants)
        raise ConfigError(section.label, chosen.name, f"one of {_PLACE}: {names}")
    return Fleet(variants[chosen.name], chosen, variants, ours[chosen.name][1])


def _labels(section: PerNodeSection, beside: Path, state_dir: Path) -> Mapping[str, str]:
    path = (state_dir if section.labels == "api" else beside) / NAME
    try:
        return read_labels(path)
    except LabelsError as error:
        text = 'the node\'s labels, a line name="value" each'
        raise ConfigError("per_node.labels", str(path), text, reason=str(error)) from error


def _check(known: Mapping[str, Raw]) -> None:
    errors = [
        ConfigError(f"{_PLACE}.{name}.{key}", content[key], "no such key: it is for all nodes")
        for name, content in known.items()
        for key in _NOT_OF_ONE
        if key in content
    ]
    if errors:
        raise ConfigError.of_several(errors)


def errors_of(
    variants: Mapping[str, Raw], wrong: Callable[[Raw], Sequence[ConfigError]]
) -> Iterator[ConfigError]:
    """What is wrong with each named configuration, whichever is chosen here: one file is right or
    wrong for all nodes."""
    for name, raw in variants.items():
        for error in wrong(raw):
            told = ConfigError(f"{_PLACE}.{name}.{error.key}", error.value, error.expected)
            told.args = (f"{_PLACE}.{name}: {error}",)
            yield told
