"""`deviceplugin status`: the document in a terminal."""

import json
import sys
from typing import Any

import msgspec
import pytest

from deviceplugin.cli.status import bar, show_status, status_text
from deviceplugin.page.status import status_of
from tests.page.known import known


def document() -> Any:  # JSON
    return msgspec.to_builtins(status_of(known(), pods=True))


def test_each_gpu_and_partition_is_a_line() -> None:
    lines = status_text(document()).splitlines()
    assert lines[0] == "node-1: 3 GPUs, 1 not healthy"
    (whole,) = (line for line in lines if line.startswith("0    NVIDIA"))
    for words in ("████░░░░░░ 37 %", "13 GiB of 40 GiB", "251 of 400 W", "63 °C"):
        assert words in whole
    (part,) = (line for line in lines if "1g.5gb" in line)
    assert part.split("  ")[-1] == "team/trainer"
    assert any("AMD MI300X" in line and "lost" in line for line in lines)


def test_faults_say_what_to_do_and_alerts_what_they_saw() -> None:
    text = status_text(document())
    assert "hardware: amd-7: it fell off the bus <b>\n  do: reset it & look at the log" in text
    assert "critical: hot (firing) on GPU-0: temperature > 60°C, now 63°C" in text


def test_nothing_is_drawn_of_what_is_not_known() -> None:
    assert (bar(None), bar(0.0), bar(1.7)) == ("–", "░░░░░░░░░░ 0 %", "██████████ 170 %")


def test_an_unhealthy_device_is_told_by_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    assert not show_status(document, "json", watch=False)
    assert json.loads(capsys.readouterr().out)["node"] == "node-1"


def test_a_watch_shows_every_answer_until_it_is_ended(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [document(), {**document(), "node": "second"}]

    def answer() -> Any:
        if not answers:
            raise KeyboardInterrupt
        return answers.pop(0)

    with pytest.raises(KeyboardInterrupt):
        show_status(answer, "table", watch=True, wait_s=0.0)
    assert "second: 3 GPUs" in capsys.readouterr().out


def test_rich_shows_the_same_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show_status(document, "table", watch=False)
    shown = capsys.readouterr().out
    for words in ("UTILISATION", "37 %", "team/trainer", "do: reset it & look at the log"):
        assert words in shown
