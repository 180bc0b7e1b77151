"""What hosts and editors read of this repository runs the same commands as a developer."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))
# What the hosts have, beside make.
OTHERS = {"gh"}
USED_BY_CI = {"check", "audit", "test", "chart", "docs", "fuzz", "soak"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def jobs(path: Path) -> Iterator[tuple[str, Any]]:
    yield from load(path)["jobs"].items()


def commands(path: Path) -> Iterator[list[str]]:
    for _, job in jobs(path):
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            if "run" in step:
                yield from (shlex.split(line) for line in step["run"].splitlines() if line)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_step_is_a_command_that_exists(path: Path) -> None:
    for command in commands(path):
        assert command[0] in {"make", *OTHERS}, command
        if command[0] == "make":
            assert command[1] in TARGETS, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_ends_and_may_do_little(path: Path) -> None:
    assert load(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path):
        assert job["timeout-minutes"] <= 60, name
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/a@v1")), step


def test_the_pipeline_runs_what_ci_runs() -> None:
    here = set(re.findall(r"(?m)^step make ([a-z-]+)", (ROOT / ".ci/run").read_text()))
    assert here == USED_BY_CI
    there = {c[1] for c in commands(ROOT / ".github/workflows/ci.yml") if c[0] == "make"}
    assert here <= there


def test_every_supported_python_is_tested() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    supported = re.findall(r"Programming Language :: Python :: (3\.\d+)", text)
    job = load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == supported
    assert f'requires-python = ">={supported[0]}"' in text


def test_hooks_are_make_targets() -> None:
    for repo in load(ROOT / ".pre-commit-config.yaml")["repos"]:
        for hook in repo["hooks"]:
            make, target = hook["entry"].split()
            assert make == "make"
            assert target in TARGETS


def test_forms_can_be_read() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = load(path)
        if path.name != "config.yml":
            assert form["name"]
            assert all(part["attributes"]["label"] for part in form["body"])
    devcontainer = msgspec.json.decode((ROOT / ".devcontainer/devcontainer.json").read_bytes())
    assert devcontainer["postCreateCommand"].split()[1] in TARGETS
