"""docs/conformance.md says what the suite does: every line, every option."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deviceplugin.testing.conformance.verdict import Line, checklist

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
ROWS = re.findall(r"(?m)^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", TEXT)


def seen(line: Line) -> str:
    if line.hidden:
        return f"never: {line.hidden}"
    needs = ", ".join(f"`{need}`" if need.startswith("-") else need for need in line.needs)
    parts = [f"with {needs}"] * bool(needs) + [f"not: {line.unseen}"] * bool(line.unseen)
    return "; ".join(parts) or "yes"


def test_every_line_is_described_as_it_is() -> None:
    expected = [(str(line.number), line.says, line.why, seen(line)) for line in checklist()]
    assert expected == ROWS


@pytest.fixture(scope="module")
def shown() -> str:
    command = [sys.executable, "-m", "deviceplugin.testing.conformance", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_every_option_is_described_and_no_other(shown: str) -> None:
    options = set(re.findall(r"--[a-z-]+", shown)) - {"--help"}
    table = "\n".join(re.findall(r"(?m)^\| (`--.+?`) \|", TEXT))
    assert set(re.findall(r"--[a-z-]+", table)) == options
