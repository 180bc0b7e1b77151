"""docs/development.md leads each task to one place, and the places are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs/development.md").read_text().split("## Where a change goes")[1]
ROWS = re.findall(r"(?m)^\| ([A-Z].+?) \| (.+?) \| (.*?) ?\|$", INDEX.split("\n## ")[0])[1:]
TASKS = pytest.mark.parametrize(
    ("place", "beside"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
VENDORS = ("nvidia", "amd", "intel")
TOP = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())


def paths_in(text: str) -> list[str]:
    """The paths below a folder of the repository that `text` has in backticks."""
    return re.findall(rf"`((?:{TOP})/[^`\s]*)`", text)


def there(path: str) -> bool:
    """Whether the path exists; `<vendor>` stands for any vendor that has such a file."""
    return any((ROOT / path.replace("<vendor>", vendor)).exists() for vendor in VENDORS)


def test_the_index_has_twenty_tasks_or_more_and_none_twice() -> None:
    tasks = [task for task, *_ in ROWS]
    assert len(tasks) >= 20
    assert len(set(tasks)) == len(tasks)


@TASKS
def test_what_a_task_names_exists(place: str, beside: str) -> None:
    assert [path for path in paths_in(place + beside) if not there(path)] == []


@TASKS
def test_a_task_has_a_place(place: str, beside: str) -> None:
    """A path, or a file that each capability has, or a rule for where to look."""
    assert paths_in(place) or "its capability" in place or place.startswith("where ")
