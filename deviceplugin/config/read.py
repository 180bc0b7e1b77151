"""What the files say in the daemon's own terms: read, made this node's, and translated."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from deviceplugin.config.config import (
    Config,
    Setting,
    default_node_name,
    parse_directory,
    parse_node_name,
)
from deviceplugin.config.files import Gathered, Source, read_state
from deviceplugin.config.schema import Raw

STATE_DIR = Config(node_name="").state_dir


class Read(msgspec.Struct, frozen=True):
    """Where the files are, what they say in our terms, and what of it has no effect here; `chosen`
    is the named configuration of this node, `variants` all of them, each with the rest."""

    source: Source | None = None
    gathered: Gathered = msgspec.field(default_factory=lambda: Gathered({}))
    notes: tuple[str, ...] = ()
    chosen: str = ""
    variants: Mapping[str, Raw] = msgspec.field(default_factory=dict)


def read_given(given: Mapping[str, Setting], read_files: Callable[[Path], Gathered]) -> Read:
    """What the files that a flag or variable names say; raises ConfigError."""
    if "config" not in given:
        return Read()
    path = Path(str(given["config"].value))
    source = Source(path, read_state(path))
    gathered = read_files(source.path)
    raw, notes = gathered.raw, tuple[str, ...]()
    if "version" in raw:
        from deviceplugin.config.nvidia_v1 import translate  # noqa: PLC0415  # for such a file alone

        raw, notes = translate(raw)
    if "per_node" not in raw:
        return Read(source, msgspec.structs.replace(gathered, raw=raw), notes)
    from deviceplugin.config.per_node import of_node  # noqa: PLC0415  # for such a file alone

    fleet = of_node(raw, *_here(raw, given), path)
    gathered = msgspec.structs.replace(gathered, raw=fleet.raw)
    return Read(source, gathered, (*notes, *fleet.notes), fleet.told, fleet.variants)


def _here(raw: Raw, given: Mapping[str, Setting]) -> tuple[str, Path]:
    """The node's name and the state directory, which decide before the rest is read."""
    found = {name: given[name] for name in ("node_name", "state_dir") if name in given}
    if "node_name" in raw:
        found.setdefault("node_name", Setting(raw["node_name"], "node_name"))
    name = parse_node_name(found["node_name"]) if "node_name" in found else default_node_name()
    state = parse_directory(found["state_dir"]) if "state_dir" in found else STATE_DIR
    return name, state
