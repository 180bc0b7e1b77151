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
        for row in table.splitlines():
            cell = re.sub(r"\(fault `\w+`\)", "", row.split("|")[1])
            found += re.findall(r"`([^`]+)`", cell)
    return found


def codes() -> Iterator[str]:
    """The fault codes of the tables of faults; `nvml_<number>` has a table of its own."""
    for path in ("operations.md", "vendors/amd.md"):
        text = (ROOT / "docs" / path).read_text()
        for table in re.findall(r"(?m)^\| Code .*\n\|[-|]*\n((?:\|.*\n)+)", text):
            yield from re.findall(r"(?m)^\| `([a-z_]+)`", table)


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


def test_every_fault_has_its_message() -> None:
    named = set(re.findall(r"`([a-z_]+)`", TEXT))
    assert sorted(set(codes()) - named) == []


@pytest.mark.parametrize("message", messages())
def test_the_message_is_in_the_code(message: str, texts: str) -> None:
    parts = [part.strip() for part in message.split("…") if part.strip()]
    assert parts
    assert [part for part in parts if part not in texts] == []
