"""What holds for every command, by a walk of the parser: help, forms, slips, completion."""

import os
import pty
from collections.abc import Iterator
from io import StringIO
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from deviceplugin.cli import cli
from deviceplugin.cli.frame import end_in_words
from deviceplugin.cli.output import rendered
from deviceplugin.cli.printed import COMPLETE
from deviceplugin.cli.progress import progress
from deviceplugin.diagnose.report import wrong_checks

# What has no form to choose, and why.
_NO_FORMS = {
    "alerts render": "--as says which file of another program",
    "audit export": "lines of the log, as they are hashed",
    "completion": "a shell's script",
    "cordon": "one line",
    "demo": "a story",
    "fleet history": "writes a file",
    "fleet serve": "serves a page, and JSON",
    "maintenance signs": "lines of a CSV file",
    "render access": "manifests, as kubectl takes them",
    "render rbac": "manifests, as kubectl takes them",
    "run": "serves",
    "runtime": "the runtime's own configuration",
    "scheduler render": "kube-scheduler's own configuration",
    "schema": "JSON Schema",
    "support-bundle": "writes an archive",
    "uncordon": "one line",
}
_OTHER_FORMS = {"compliance report": "json|html|pdf"}  # for auditors, who keep a file


def walk(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from walk(below, *path, name)


EVERY = dict(walk(cli))
GROUPS = {name: one for name, one in EVERY.items() if isinstance(one, click.Group)}
LEAVES = {name: one for name, one in EVERY.items() if name not in GROUPS}


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = 0
    try:
        end_in_words(
            lambda: cli.main(list(arguments), prog_name="deviceplugin", standalone_mode=False)
        )
    except SystemExit as end:
        status = int(end.code or 0)
    return (status, *capsys.readouterr())


@pytest.mark.parametrize("command", EVERY)
def test_help_fits_80_columns_and_is_cut_nowhere(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    status, text, _ = ended(capsys, *command.split(), "--help")
    assert status == 0
    assert max(map(len, text.splitlines())) <= 80
    listed = text.partition("\nCommands:\n")[2].splitlines()
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize("group", sorted(GROUPS.keys() - {"scheduler"}))  # that serves
def test_a_group_alone_is_its_help_and_no_error(
    capsys: pytest.CaptureFixture[str], group: str
) -> None:
    status, text, said = ended(capsys, *group.split())
    assert (status, said) == (0, "")
    assert text.startswith(f"Usage: deviceplugin {group}".rstrip())
    assert text.rstrip("\n") == ended(capsys, *group.split(), "--help")[1].rstrip("\n")


def test_every_command_prints_its_answer_in_the_same_forms() -> None:
    found = {name: forms for name, one in LEAVES.items() if (forms := forms_of(one))}
    assert LEAVES.keys() - found.keys() == _NO_FORMS.keys()
    others = {name: forms for name, forms in found.items() if not {"json", "yaml"} <= forms}
    assert others == {name: set(text.split("|")) for name, text in _OTHER_FORMS.items()}


@pytest.mark.parametrize(
    ("named", "names"),
    [("devices", "GPU-1\nacme\n"), (lambda document: document["chosen"], "a\nb\n")],
    ids=["list", "function"],
)
def test_names_are_one_a_line(named: Any, names: str) -> None:
    document = {"devices": [{"id": "GPU-1"}, {"name": "acme"}], "chosen": ["a", "b"]}
    assert rendered(document, "name", named=named) == names


def test_what_has_names_prints_them_alone() -> None:
    assert {name for name, one in LEAVES.items() if "name" in forms_of(one)} == {
        *("diagnose", "discover", "dra match", "dra slices", "explain", "fleet budget"),
        *("fleet report", "health", "maintenance show", "preflight", "status", "vendors"),
    }


def test_a_diagnosis_names_the_checks_that_need_a_look() -> None:
    verdicts = ("fail", "pass", "warn", "fail")
    checks = [{"check": f"check-{n % 3}", "verdict": one} for n, one in enumerate(verdicts)]
    assert rendered({"checks": checks}, "name", named=wrong_checks) == "check-0\ncheck-2\n"


def forms_of(command: click.Command) -> set[str]:
    for one in command.params:
        if one.name == "form":
            assert {"-o", "--output", "--format"} == {*one.opts}
            return set(str(one.metavar).strip("[]").split("|"))
    return set()


def slip_of(name: str) -> str:
    """As fingers slip: without the last letter but one."""
    return name[:-2] + name[-1]


@pytest.mark.parametrize("command", sorted(EVERY.keys() - {""}))
def test_a_mistyped_command_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    *before, name = command.split()
    status, _, said = ended(capsys, *before, slip_of(name))
    assert status == 2
    assert f"'{name}'" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("command", EVERY)
def test_a_mistyped_flag_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    flags = [flag for one in EVERY[command].params for flag in one.opts if flag.startswith("--")]
    known = {*flags, "--help"}
    for flag in flags:
        if slip_of(flag) not in known:
            status, _, said = ended(capsys, *command.split(), slip_of(flag))
            assert status == 2
            assert f"'{flag}'" in said, said


def completed(*words: str) -> set[str]:
    *before, last = words
    found = ShellComplete(cli, {}, "deviceplugin", COMPLETE).get_completions(before, last)
    return {one.value for one in found}


@pytest.mark.parametrize("command", EVERY)
def test_a_shell_completes_commands_and_flags(command: str) -> None:
    here: Any = EVERY[command]
    assert completed(*command.split(), "") >= set(getattr(here, "commands", ()))
    flags = {flag for one in here.params for flag in one.opts if flag.startswith("--")}
    assert completed(*command.split(), "--") >= flags


def test_a_shell_completes_forms_of_output() -> None:
    assert completed("discover", "-o", "") == {"table", "json", "yaml", "name"}
    assert completed("fleet", "report", "--output", "h") == {"html"}


def test_progress_is_shown_on_a_terminal_and_gone_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    seen = b""
    try:
        with os.fdopen(theirs, "w") as terminal, progress("counting", terminal, 0.0) as told:
            while b"counting ..." not in seen:
                seen += os.read(ours, 4096)
            told.what = "done nearly"
            while b"done nearly ..." not in seen:
                seen += os.read(ours, 4096)
            told.end()
            while not seen.endswith(b"\r\x1b[K"):
                seen += os.read(ours, 4096)
    finally:
        os.close(ours)
    assert b"\n" not in seen


def assert_says_nothing(after_s: float) -> None:
    """A terminal gets not one byte."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        with progress("counting", terminal, after_s):
            pass
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    os.close(ours)


def test_a_pipe_and_a_terminal_that_cannot_erase_get_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = StringIO()
    with progress("counting", pipe, 0.0):
        pass
    assert pipe.getvalue() == ""
    monkeypatch.setenv("TERM", "dumb")
    assert_says_nothing(after_s=0.0)


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert_says_nothing(after_s=3600.0)
