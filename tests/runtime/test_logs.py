"""The line of an event that comes by the thousand is the line that the logger would write."""

import json
from collections.abc import Iterator
from enum import StrEnum

import pytest
import structlog
from structlog.testing import capture_logs

from deviceplugin.runtime.logs import configure_logs, write_info


class Word(StrEnum):
    A = "a"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def written(capsys: pytest.CaptureFixture[str], *, quickly: bool, **fields: object) -> str:
    configure_logs("info", "json")
    if quickly:
        write_info("happened", fields)
    else:
        structlog.get_logger().info("happened", **fields)
    line = capsys.readouterr().err
    stamp = json.loads(line)["timestamp"]
    assert len(stamp) == len("2026-01-01T00:00:00.000000Z") or "." not in stamp
    return line.replace(stamp, "")


@pytest.mark.parametrize(
    "fields",
    [
        {"resource": "example.com/gpu", "devices": ["a", "b"]},
        {"resource": Word.A, "devices": ()},
        {"count": 3, "share": 0.5, "known": None, "good": True},
        {"text": 'quotes " and \\ and \n and \x1b[31m'},
        {"text": "not only ASCII: é \u2028"},
        {"text": "half a pair: \udc80"},
        {"thing": object},
        {},
    ],
    ids=lambda fields: "-".join(fields) or "nothing",
)
def test_it_is_the_same_line(fields: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    slow, quick = (written(capsys, quickly=quickly, **fields) for quickly in (False, True))
    assert quick == slow


def test_a_higher_level_leaves_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning", "json")
    write_info("happened", {"a": 1})
    assert capsys.readouterr().err == ""


def test_the_console_shows_it_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "console")
    write_info("happened", {"a": 1})
    line = capsys.readouterr().err
    assert "happened" in line
    assert "{" not in line


def test_a_test_that_captures_events_has_it_too() -> None:
    configure_logs("info", "json")
    with capture_logs() as logs:
        write_info("happened", {"a": 1})
    assert [(entry["event"], entry["a"]) for entry in logs] == [("happened", 1)]
