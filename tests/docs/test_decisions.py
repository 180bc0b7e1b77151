"""The index of decisions names every record, by its number and its title."""

from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs/decisions"


def test_the_index_has_every_decision_once_by_its_number_and_title() -> None:
    rows = []
    for file in sorted(DECISIONS.glob("[0-9]*.md")):
        number, _, title = file.read_text().partition("\n")[0].removeprefix("# ").partition(". ")
        assert file.name.startswith(f"{int(number):04}-"), file.name
        rows.append(f"| {number} | [{title}]({file.name}) |")
    index = (DECISIONS / "README.md").read_text().splitlines()
    assert [line for line in index if "](0" in line] == rows
    assert len({row.split()[1] for row in rows}) == len(rows)
