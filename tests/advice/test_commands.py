"""The commands of advice, as they are typed."""

import json
from pathlib import Path

import pytest
import yaml

from deviceplugin.cli import cli
from deviceplugin.config.load import load
from deviceplugin.cost.files import write_history
from deviceplugin.errors import ConfigError
from tests.advice.examples import fleet, hourly, steady

COSTS = """cost:
  prices: [{model: "*h100*", hourly: 3.0, source: a contract, dated: 2026-01-01}]
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    path = tmp_path_factory.mktemp("fleet")
    found = fleet(hourly(steady("a"), days=8), hourly(steady("b"), of="GPU-1", days=8), gpus=2)
    write_history(path / "history.csv", found)
    (path / "costs.yaml").write_text(COSTS)
    return ("--history", str(path / "history.csv"), "--costs", str(path / "costs.yaml"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main([*words], standalone_mode=False)
    return capsys.readouterr().out


def test_every_saving_that_is_printed_is_computed_again_by_replay(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run(capsys, "fleet", "advice", *files, "-o", "json")
    path = tmp_path / "advice.json"
    path.write_text(printed)
    found = json.loads(printed)["advice"]
    assert {one["kind"] for one in found} >= {"right-size", "share", "layout"}
    for one in found:
        if one["saving"] is not None:
            words = ("fleet", "replay", *files, "--advice", str(path), one["id"], "-o", "json")
            assert json.loads(run(capsys, *words))["saving"] == one["saving"]


def test_advice_is_shown_as_a_table(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, "fleet", "advice", *files)
    assert "right-size" in text
    assert "What is freed is paid until GPUs are given back" in text


@pytest.mark.parametrize(
    ("section", "kinds"),
    [
        ("auto_optimization: {optimizations: [memory_allocation]}", {"right-size"}),
        ("auto_optimization: {optimizations: [thermal_management]}", set()),
        ("cost_optimization: {optimization: [scheduling_optimization]}", {"share", "layout"}),
        (
            "cost_optimization: {enabled: false, optimization: [power_management]}",
            {"right-size", "share", "layout"},
        ),
    ],
)
def test_documents_choose_what_is_advised(
    section: str,
    kinds: set[str],
    files: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "c.yaml").write_text(f"{COSTS}{section}\n")
    words = (*files[:3], str(tmp_path / "c.yaml"), "-o", "json")
    found = json.loads(run(capsys, "fleet", "advice", *words))["advice"]
    assert {one["kind"] for one in found} == kinds


def test_a_word_that_names_no_advice_is_refused(files: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"{COSTS}auto_optimization: {{optimizations: [magic]}}\n")
    with pytest.raises(ConfigError, match=r"auto_optimization.optimizations: 'magic'"):
        cli.main(["fleet", "advice", *files[:3], str(tmp_path / "c.yaml")], standalone_mode=False)


def ids(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    found = json.loads(run(capsys, "fleet", "advice", *files, "-o", "json"))["advice"]
    return {one["kind"]: one["id"] for one in found}


def test_a_patch_of_our_configuration_is_written_beside_it(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("log_level: error\n")
    name = ids(files, capsys)["share"]
    run(capsys, "fleet", "advice", *files, "--apply", name, "--config", str(tmp_path))
    written = tmp_path / f"advice-{name}.yaml"
    assert yaml.safe_load(written.read_text())["rules"][0]["offers"] == [{"replicas": 2}]
    assert load({"config": str(tmp_path)})[0].log_level == "error"


def test_what_the_configuration_says_already_is_left_to_a_person(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("rules: [{offers: [{replicas: 4}]}]\n")
    name = ids(files, capsys)["share"]
    words = ("fleet", "advice", *files, "--apply", name, "--config", str(tmp_path))
    with pytest.raises(ConfigError, match="a configuration without rules"):
        cli.main([*words], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        ("right-size", ".", "its owner's to apply"),
        ("share", "", "a directory"),
        ("", ".", "one of"),
    ],
)
def test_what_cannot_be_applied_is_said(
    kind: str, config: str, says: str, files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    name = ids(files, capsys).get(kind, "none")
    where = ("--config", config) if config else ()
    with pytest.raises(ConfigError, match=says):
        cli.main(["fleet", "advice", *files, "--apply", name, *where], standalone_mode=False)


@pytest.mark.parametrize("text", ["", "[]", '{"advice": [{}]}', '{"advice": []}'])
def test_a_file_that_is_no_advice_is_refused(
    text: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(text)
    words = ("fleet", "replay", *files, "--advice", str(tmp_path / "a.json"), "x")
    with pytest.raises(ConfigError, match=r"--advice|ID"):
        cli.main([*words], standalone_mode=False)


def test_a_change_that_is_no_part_is_refused(files: tuple[str, ...], tmp_path: Path) -> None:
    change = {"kind": "share", "share": 0}
    text = json.dumps({"advice": [{"id": "x", "change": change}]})
    (tmp_path / "a.json").write_text(text)
    words = ("fleet", "replay", *files, "--advice", str(tmp_path / "a.json"), "x")
    with pytest.raises(ConfigError, match=r"change\.share: 0 is not valid"):
        cli.main([*words], standalone_mode=False)
