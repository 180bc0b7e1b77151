"""Every message that docs/troubleshooting.md shows is one that the code can write."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/troubleshooting.md").read_text()


def messages() -> list[str]:
    """The literal messages: the first cell of the tables that are headed Message."""
    found = []
    for table in re.findall(r"(?m)^\| Message .*\n\|[-|]*\n((?:\|.*\n)+)", TEXT):
        found += [row.split("|")[1].split("`")[1] for row in table.splitlines()]
    return found


def constants() -> Iterator[str]:
    for path in sorted((ROOT / "deviceplugin").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.fixture(scope="module")
def texts() -> str:
    return "\n".join(constants())


def test_there_are_messages() -> None:
    assert len(messages()) > 15


@pytest.mark.parametrize("message", messages())
def test_the_message_is_in_the_code(message: str, texts: str) -> None:
    parts = [part.strip() for part in message.split("…") if part.strip()]
    assert parts
    assert [part for part in parts if part not in texts] == []
