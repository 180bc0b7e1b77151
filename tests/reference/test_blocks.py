"""Every block of users' policy documents is taken as it stands; a misspelt key of it is found."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.cli.verdicts import verdicts
from deviceplugin.config.load import load
from deviceplugin.documents.names import NAMES
from deviceplugin.documents.section import SECTIONS
from deviceplugin.documents.words import _FREE
from deviceplugin.errors import ConfigError
from tests.reference.index import INDEX

BLOCKS = Path(__file__).parent / "blocks"
FLAGS = {"node_name": "gpu-node-1"}


def kinds_of(path: Path) -> str:
    shown = verdicts(FLAGS, str(path))
    assert not [one for one in shown["documents"] if one["kind"] == "errors"]
    return " ".join(sorted({key["verdict"] for one in shown["documents"] for key in one["keys"]}))


def test_the_index_names_every_block() -> None:
    assert {path.stem for path in BLOCKS.iterdir()} == INDEX.keys()
    assert len(INDEX) == 50


@pytest.mark.parametrize("block", INDEX)
def test_a_block_is_told_as_the_index_says(block: str) -> None:
    assert kinds_of(BLOCKS / f"{block}.yaml") == INDEX[block]


def test_every_name_of_a_section_has_its_schema() -> None:
    assert SECTIONS.keys() == NAMES


def keys_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all keys that are not the user's own names."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from keys_of(item, (*path, number))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not (path and path[-1] in _FREE):
                yield (*path, key)
            if key not in _FREE:
                yield from keys_of(inner, (*path, key))


def with_misspelt(value: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    at = changed
    for step in path[:-1]:
        at = at[step]
    items = [(f"{k}{k[-1]}" if k == path[-1] else k, v) for k, v in at.items()]
    at.clear()
    at.update(items)
    return changed


def told_wrong(path: Path) -> str:
    """All that is refused, or why the file cannot be read."""
    try:
        shown = verdicts(FLAGS, str(path))
    except ConfigError as error:
        return "\n".join(map(str, error.errors))
    keys = (key for one in shown["documents"] for key in one["keys"])
    return "\n".join(f"{k['key']}: {k['text']}" for k in keys if k["verdict"] == "refused")


def misspelt(document: Any) -> Iterator[tuple[str, Any]]:
    """The right key, and the document with it misspelt: inside the data of a ConfigMap too."""
    for path in keys_of(document):
        yield path[-1], with_misspelt(document, path)
    data = document.get("data") if document["kind"] == "ConfigMap" else None
    for name, text in (data or {}).items():
        if name.endswith(".yaml"):
            inner = yaml.safe_load(text)
            for path in keys_of(inner):
                changed = yaml.safe_dump(with_misspelt(inner, path))
                yield path[-1], {**document, "data": {name: changed}}


@pytest.mark.parametrize("block", INDEX)
def test_each_key_that_is_misspelt_is_named_with_the_right_one(block: str, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((BLOCKS / f"{block}.yaml").read_text()))
    path, missed = tmp_path / "a.yaml", []
    for number, document in enumerate(documents):
        for key, changed in misspelt(document):
            others = [*documents[:number], changed, *documents[number + 1 :]]
            path.write_text(yaml.safe_dump_all(others))
            if f"{key!r}" not in told_wrong(path):
                missed.append(key)
    assert missed == []


@pytest.mark.parametrize(
    ("block", "right"),
    [("5.2.1", "runtime_type"), ("5.2.1", "BinaryName"), ("5.2.2", "runtime_path")],
)
def test_a_misspelt_key_of_toml_is_named_too(block: str, right: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    text = (BLOCKS / f"{block}.yaml").read_text()
    path.write_text(text.replace(right, right[:3] + right[4:], 1))
    assert f"did you mean {right!r}?" in told_wrong(path)


def test_all_blocks_together_are_one_configuration_whose_conflicts_name_both_places() -> None:
    config, _ = load({**FLAGS, "config": str(BLOCKS), "allow_unsupported": "true"})
    assert any(
        "monitoring.metrics: " in line and "2.1.3.yaml: config.yaml" in line and "10.1.1" in line
        for line in config.conflicts
    )
    assert any("2.1.2.yaml: Pod" in line for line in config.beside)
    assert len(config.unsupported) >= 3
