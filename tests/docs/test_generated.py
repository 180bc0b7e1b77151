"""What is made from the sections is as the sections are."""

import json

import jsonschema
import pytest
import yaml

from deviceplugin.config.files import read_config_files
from tests.docs.generated import NEW, ROOT, configuration_tables, generated

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
