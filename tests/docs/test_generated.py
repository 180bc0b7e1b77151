"""What is made from the sections is as the sections are."""

import json

import jsonschema
import pytest
import yaml

from deviceplugin.cli import cli
from deviceplugin.config.files import read_config_files
from tests.docs.generated import NEW, ROOT, configuration_tables, generated
from tests.docs.manual import manual

SCHEMA = json.loads((ROOT / "docs/schema/configuration.schema.json").read_text())
BLOCKS = sorted((ROOT / "tests/reference/blocks").iterdir())


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_a_generated_file_is_current(path: object) -> None:
    (text,) = (text for name, text in generated().items() if name == path)
    assert (ROOT / str(path)).read_text() == text, "run `make sections`"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda path: path.stem)
def test_the_schema_takes_what_the_daemon_takes(block: object) -> None:
    jsonschema.validate(read_config_files(ROOT / str(block)).raw, SCHEMA)


def test_a_table_of_keys_follows_the_sections() -> None:
    page = (
        "| Key | Default | Meaning |\n|---|---|---|\n| `a.b` | `1` | what b is |\n"
        "| `a.gone` | unset | old |\n\n| `a.elsewhere` | |\n"
    )
    found = configuration_tables(page, {"a.b": "2", "a.c": "unset", "a.elsewhere": "3", "d.e": "4"})
    assert found == (
        "| Key | Default | Meaning |\n|---|---|---|\n| `a.b` | `2` | what b is |\n"
        f"| `a.c` | unset | {NEW} |\n\n| `a.elsewhere` | |\n"
    )


def test_every_key_has_its_meaning() -> None:
    assert f"| {NEW} |" not in (ROOT / "docs/configuration.md").read_text()


def test_the_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load("migg: {}"), SCHEMA)


def test_the_manual_has_every_command_and_every_option_of_it() -> None:
    page = manual().replace("\\-", "-")
    for name, command in cli.commands.items():
        assert f".SS deviceplugin {name}" in page
        for option in (o for p in command.params for o in p.opts if o.startswith("--")):
            assert option in page, f"{name}: {option}"


def test_no_line_of_the_manual_is_a_request_by_accident() -> None:
    requests = {line.split()[0] for line in manual().splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".nf", ".fi"}
