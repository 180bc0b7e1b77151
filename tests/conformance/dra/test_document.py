"""docs/dra-conformance.md has every line as it is."""

import re
from pathlib import Path

from deviceplugin.testing.conformance.verdict import DRA, checklist
from tests.conformance.test_document import seen

TEXT = (Path(__file__).parents[3] / "docs/dra-conformance.md").read_text()


def test_every_line_is_described_as_it_is() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", TEXT)
    assert rows == [(str(n.number), n.says, n.why, seen(n)) for n in checklist(DRA)]
    assert [int(number) for number, *_ in rows] == list(range(1, 45))
