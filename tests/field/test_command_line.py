"""The command line's frame: help, formats, exit statuses and what a slip is answered with."""

from pathlib import Path

import pytest

from deviceplugin.cli import SCENARIO_NAMES, cli
from deviceplugin.cli.frame import DAEMON_FLAGS, end_in_words, parse_format
from deviceplugin.config.load import SETTINGS
from deviceplugin.demo import SCENARIOS
from deviceplugin.errors import ConfigError
from deviceplugin.run import FLAGS, SWITCHES, plain_flags


class Ended:
    """A command run in this process: its exit status and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.status = 0
        try:
            end_in_words(
                lambda: cli.main(list(arguments), prog_name="deviceplugin", standalone_mode=False)
            )
        except SystemExit as end:
            self.status = int(end.code or 0)
        self.out, self.err = capsys.readouterr()


def test_without_arguments_it_is_the_help_and_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = Ended(capsys)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == Ended(capsys, "--help").out
    assert ended.out.startswith("Usage: deviceplugin ")


def test_commands_are_grouped_and_told_in_whole_sentences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = Ended(capsys, "--help").out
    titles = ["The daemon:", "This node:", "Operators:", "To try it:"]
    assert [line for line in text.splitlines() if line in titles] == titles
    assert "Others:" not in text
    assert "..." not in text.partition("[ARGS]...")[2]
    assert "  130  interrupted" in text


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_fits_80_columns(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = Ended(capsys, *command.split(), "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert "--config TEXT" not in text


@pytest.mark.parametrize("command", ["discover", "vendors", "explain"])
def test_a_format_is_the_same_option_everywhere(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert "--format, --output [table|json|yaml" in Ended(capsys, command, "--help").out


def test_the_flag_of_kubectl_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    named = Ended(capsys, "vendors", "-o", "name").out
    assert named == Ended(capsys, "vendors", "--format", "name").out == "amd\nintel\nnvidia\n"


@pytest.mark.slow  # click asks bash for its version
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Ended(capsys, "completion", shell).out
    assert f"_DEVICEPLUGIN_COMPLETE={shell}_complete" in text


def test_the_format_of_the_variable_is_for_the_commands_that_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEVICEPLUGIN_FORMAT", "table")
    assert parse_format(None) == "table"
    assert parse_format(None, ("yaml", "json")) == "yaml"
    monkeypatch.setenv("DEVICEPLUGIN_FORMAT", "json")
    assert parse_format(None, ("yaml", "json")) == "json"
    assert parse_format("yaml") == "yaml"
    monkeypatch.setenv("DEVICEPLUGIN_FORMAT", "xml")
    with pytest.raises(ConfigError, match=r"^DEVICEPLUGIN_FORMAT: 'xml'"):
        parse_format(None)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("nonsense", "No such command 'nonsense'. (see `deviceplugin --help`)"),
        ("helth", "No such command 'helth'. Did you mean 'health'? (see `deviceplugin --help`)"),
        ("discover --json", "No such option '--json'. (write --format json)"),
        ("completion tcsh", "SHELL: 'tcsh' is not valid, expected one of bash, zsh, fish"),
        ("run --pulse 5", "(devices are checked all the time, there is no interval to set)"),
        (
            "discover --format xml",
            "--format: 'xml' is not valid, expected one of table, json, yaml, name",
        ),
        (
            "explain --resource a/b --size two",
            "--size: 'two' is not valid, expected a whole number from 0",
        ),
        (
            "explain --resource a/b --size -1",
            "--size: '-1' is not valid, expected a whole number from 0",
        ),
        ("explain", "RESOURCE: '' is not valid, expected the name of a resource, such as nvidia"),
        ("explain a/b --resource c/d", "--resource: 'c/d' is not valid, expected the resource of"),
        ("health --format xml", "--format: 'xml' is not valid, expected one of table, json"),
        (
            "demo --scenario nope",
            "--scenario: 'nope' is not valid, expected one of mixed, nvidia, amd, intel, ",
        ),
        ("discover --host-root /does/not/exist", "--host-root: '/does/not/exist' is not valid"),
        ("vendors --host-root /does/not/exist", "--host-root: '/does/not/exist' is not valid"),
        ("check --node --host-root /does/not/exist", "--host-root: '/does/not/exist'"),
        ("run --host-root /does/not/exist", "--host-root: '/does/not/exist' is not valid"),
    ],
)
def test_a_slip_is_one_line_with_status_2(
    capsys: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    ended = Ended(capsys, *arguments.split())
    assert ended.status == 2
    (printed,) = ended.err.splitlines()
    assert printed.startswith("deviceplugin: ")
    assert line in printed


@pytest.mark.parametrize("words", ["nvidia.com/gpu", "--resource nvidia.com/gpu"])
def test_explain_takes_the_resource_as_argument_or_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str
) -> None:
    where = ("--state-dir", str(tmp_path), "--host-root", str(tmp_path))
    ended = Ended(capsys, "explain", *words.split(), *where)
    assert ended.status == 2
    assert "'nvidia.com/gpu' is not valid, expected nothing: this node has no resource" in ended.err


def test_health_without_a_daemon_says_what_shows_the_node(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ended = Ended(capsys, "health", "--state-dir", str(tmp_path))
    assert ended.status == 1
    assert "no daemon answers on " in ended.err
    assert "without a daemon `deviceplugin discover` shows this node's GPUs" in ended.err


@pytest.mark.parametrize("given", ["nvidia,nvidia", "nvidia, amd ,nvidia"])
def test_a_vendor_that_is_named_again_is_told_and_costs_nothing(
    capsys: pytest.CaptureFixture[str], given: str
) -> None:
    ended = Ended(capsys, "check", "--vendors", given)
    assert ended.status == 0
    line = "without effect: --vendors: nvidia is named 2 times and counts once"
    assert line in ended.err.splitlines()


def test_every_mistake_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "check", "--log-level", "loud", "--node-name", "UPPER")
    assert ended.status == 2
    assert [line.split(": ")[1] for line in ended.err.splitlines()] == [
        "--node-name",
        "--log-level",
    ]


def test_check_ends_with_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "check", "--host-root", "/does/not/exist")  # the file alone is judged
    assert (ended.status, ended.err) == (0, "configuration is valid\n")
    assert ended.out.startswith("node_name: ")
    assert Ended(capsys, "check", "--format", "json").out.startswith("{")


def test_the_scenarios_are_those_of_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(SCENARIOS) == SCENARIO_NAMES
    assert f"--scenario [{'|'.join(SCENARIO_NAMES)}]" in Ended(capsys, "demo", "--help").out


def test_a_node_without_gpus_is_said_to_have_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ("--host-root", str(tmp_path), "--state-dir", str(tmp_path), "--vendors", "amd,intel")
    ended = Ended(capsys, "discover", *where)
    assert ended.status == 0
    assert "No GPU was found." in ended.out
    assert "RESOURCE" not in ended.out
    assert "no AMD GPU" in ended.out


def test_every_setting_is_a_flag() -> None:
    assert sorted(DAEMON_FLAGS) == sorted(("config", *SETTINGS))


def by_click(arguments: list[str]) -> dict[str, str | None]:
    command = cli.commands["run"]
    context = command.make_context("run", list(arguments))
    return {name: context.params[name] for name in FLAGS}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--config", "/etc/deviceplugin"],
        ["--config=/etc/deviceplugin", "--vendors", "amd,intel", "--host-root=/host"],
        ["--metrics-address=", "--log-level", ""],
        ["--node-name", "a=b", "--node-name=c=d"],
        [p for n in FLAGS if n not in SWITCHES for p in (f"--{n.replace('_', '-')}", n)],
    ],
    ids=["none", "value", "both", "empty", "twice", "all"],
)
def test_plain_flags_of_run_are_what_click_makes_of_them(arguments: list[str]) -> None:
    assert plain_flags(arguments) == by_click(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["--bogus", "1"], ["--config"], ["--config", "--vendors", "amd"], ["--"]),
        *(["--conf", "x"], ["-f", "x"], ["--log-level", "-1"], ["--=x"], ["--node_name=x"]),
        *(["amd"], ["--allow-unsupported"]),
    ],
    ids=" ".join,
)
def test_whatever_else_stands_there_is_left_to_click(arguments: list[str]) -> None:
    assert plain_flags(arguments) is None


def test_run_has_the_flags_that_its_help_names() -> None:
    assert {option.name for option in cli.commands["run"].params} == {*FLAGS}
    assert FLAGS == DAEMON_FLAGS
