"""What an audit calls a finding, and that what is shipped is what is locked."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.audit.verdict import ACCEPTED, code_problems, package_verdict

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
ALL = (ROOT / "requirements-all.lock").read_text()
BUILD = (ROOT / "requirements-build.lock").read_text()
EXTRAS = PROJECT["project"]["optional-dependencies"]
SHIPPED = [*PROJECT["project"]["dependencies"], *EXTRAS["processes"]]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
    return {plain(n): v for n, v in re.findall(r"(?m)^([\w.-]+)==(\S+)", lock)}


def requirements(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Names with the lowest version that is asked for."""
    found = (re.fullmatch(r"([\w.-]+)>=([\d.]+)", text) for text in texts)
    return {plain(one[1]): numbers(one[2]) for one in found if one}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        (LOCK, SHIPPED),
        (ALL, [*PROJECT["project"]["dependencies"], *EXTRAS["all"]]),
        (BUILD, PROJECT["build-system"]["requires"]),
    ],
    ids=["run", "all", "build"],
)
def test_the_lock_has_every_requirement_in_a_version_that_is_asked_for(
    lock: str, asked: list[str]
) -> None:
    locked, lowest = pins(lock), requirements(asked)
    assert len(lowest) == len(asked)
    assert {n for n, v in lowest.items() if numbers(locked.get(n, "0")) < v} == set()


def asked_for(lock: str) -> set[str]:
    """What a lock has because the project itself asks for it."""
    blocks = re.findall(r"(?m)^([\w.-]+)==(\S+.*\n(?:    .*\n)*)", lock)
    return {plain(name) for name, rest in blocks if "deviceplugin (pyproject.toml)" in rest}


@pytest.mark.parametrize(("lock", "extra"), [(LOCK, "processes"), (ALL, "all")], ids=["run", "all"])
def test_the_lock_has_nothing_that_is_not_asked_for_any_more(lock: str, extra: str) -> None:
    asked = [*PROJECT["project"]["dependencies"], *EXTRAS[extra]]
    assert asked_for(lock) == {*requirements(asked)}, "make lock"


def test_all_extras_are_those_that_users_choose() -> None:
    assert {*EXTRAS["all"]} == {*EXTRAS["processes"], *EXTRAS["terminal"]}
    assert pins(LOCK).items() <= pins(ALL).items()


@pytest.mark.parametrize("lock", [LOCK, ALL, BUILD], ids=["run", "all", "build"])
def test_every_package_of_a_lock_has_hashes_and_comes_from_no_other_place(lock: str) -> None:
    blocks = re.findall(r"(?m)^[\w.-]+==\S+.*\n(?:    .*\n)*", lock)
    assert len(blocks) == len(pins(lock))
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in lock


def test_the_image_installs_nothing_without_a_hash() -> None:
    text = re.sub(r" \\\n +", " ", (ROOT / "Dockerfile").read_text())
    steps = re.findall(r"python -m pip (?:--python \S+ )?(install|wheel|download) ([^&\n]*)", text)
    assert len(steps) == 4
    for _, options in steps:
        hashed = "--require-hashes" in options and "--only-binary :all:" in options
        assert hashed or ("--no-index" in options and "--no-deps" in options)


def package(**more: Any) -> str:
    return json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": []} | more]})


def test_a_known_vulnerability_is_a_finding_and_names_the_version_that_fixes_it() -> None:
    bug = {"id": "PYSEC-1", "fix_versions": ["2"]}
    assert package_verdict(package(vulns=[bug]), "").found == ("a 1: PYSEC-1, fixed in 2",)
    assert package_verdict(package(vulns=[{"id": "X"}]), "").found == (
        "a 1: X, fixed in no version yet",
    )


def test_what_was_asked_is_told_apart_from_what_could_not_be() -> None:
    assert package_verdict(package(), "") == ((), (), 1)
    skipped = json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}]})
    assert package_verdict(skipped, "") == ((), ("not found",), 0)
    said = "WARNING:x\nERROR: no connection"
    assert package_verdict("", said) == ((), ("ERROR: no connection",), 0)
    assert package_verdict("", "").unasked == ("pip-audit gave no answer",)


def finding(name: str, rule: str) -> dict[str, Any]:
    return {"filename": name, "test_id": rule, "line_number": 3, "issue_text": "eval"}


def test_only_what_is_accepted_with_a_reason_is_no_finding() -> None:
    accepted = [finding(name, rule) for name, rule in ACCEPTED]
    new = finding("deviceplugin/model/__init__.py", "B307")
    assert code_problems({"errors": [], "results": [*accepted, new]}) == [
        "deviceplugin/model/__init__.py:3: B307 eval"
    ]
    broken = {"filename": "a.py", "reason": "syntax error"}
    assert code_problems({"errors": [broken], "results": []}) == ["a.py: syntax error"]


def test_what_is_accepted_is_there() -> None:
    assert [name for name, _ in ACCEPTED if not (ROOT / name).exists()] == []
