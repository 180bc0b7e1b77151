"""Flags, environment and files: which wins, and what a bad value says."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.config.config import Setting, parse_address
from deviceplugin.config.files import MAX_BYTES, read_config_files
from deviceplugin.errors import ConfigError
from tests.rig import run_command

pytestmark = pytest.mark.slow

# The configuration of the users' documents, section by section.
FULL = """
vendors: [nvidia]
nvidia:
  mig_strategy: mixed
  device_list_strategy: [envvar]
  device_id_strategy: uuid
  pass_device_specs: false
  driver_root: /
mig:
  version: "2.0"
  enabled: true
  instances:
    - {name: mig-1g.5gb, memory: 5GiB, compute_units: 14, tensor_cores: 1, count: 1}
  scheduling: {policy: fair_share, isolation: hardware}
"""


def config_file(tmp_path: Path, text: str, name: str = "config.yaml") -> str:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def checked(*arguments: str, **variables: str) -> dict[str, Any]:
    result = run_command("check", *arguments, **variables)
    assert result.returncode == 0, result.stderr
    document = yaml.safe_load(result.stdout)
    assert isinstance(document, dict)
    return document


def refused(*arguments: str, command: str = "check", **variables: str) -> str:
    """The one line of a refusal."""
    result = run_command(command, *arguments, **variables)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_the_documented_configuration_is_taken_and_shown(tmp_path: Path) -> None:
    shown = checked("--config", config_file(tmp_path, FULL))
    written = yaml.safe_load(FULL)
    assert shown["vendors"] == ["nvidia"]
    for section in ("nvidia", "mig"):
        assert written[section].items() <= shown[section].items()


def test_what_is_shown_is_a_configuration_again(tmp_path: Path) -> None:
    first = run_command("check", "--config", config_file(tmp_path, FULL)).stdout
    second = run_command("check", "--config", config_file(tmp_path, first, "again.yaml")).stdout
    assert first == second


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = config_file(tmp_path, "node_name: from-file\nlog_level: error\n")
    shown = checked(
        *("--config", path, "--node-name", "from-flag"),
        DEVICEPLUGIN_NODE_NAME="from-environment",
        DEVICEPLUGIN_LOG_LEVEL="debug",
    )
    assert shown["node_name"] == "from-flag"
    assert shown["log_level"] == "debug"
    assert shown["kubelet_dir"] == "/var/lib/kubelet"


def test_defaults_are_those_of_a_kubernetes_node() -> None:
    shown = checked()
    assert shown["metrics_address"] == "127.0.0.1:9440"
    assert shown["cdi_dir"] == "/var/run/cdi"
    assert shown["host_root"] == "/"
    assert shown["nvidia"]["mig_strategy"] == "mixed"


def test_an_empty_metrics_address_switches_the_endpoint_off() -> None:
    assert checked("--metrics-address", "")["metrics_address"] == ""


def test_a_directory_is_read_in_name_order_and_merged_key_by_key(tmp_path: Path) -> None:
    directory = tmp_path / "conf"
    config_file(directory, "nvidia: {mig_strategy: none, pass_device_specs: true}", "10-a.yaml")
    config_file(directory, "nvidia: {mig_strategy: single}", "20-b.yml")
    config_file(directory, "nonsense: 1", "notes.txt")
    config_file(directory, "nonsense: 1", ".hidden.yaml")
    section = checked("--config", str(directory))["nvidia"]
    assert (section["mig_strategy"], section["pass_device_specs"]) == ("single", True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nvidia: {mig_strategy: mixd}", ["nvidia.mig_strategy", "'mixd'", "mixed, none, single"]),
        ("nvidia: {mig_strategyy: mixed}", ["nvidia.mig_strategyy", "did you mean 'mig_strategy'"]),
        (
            "nvidia: {pass_device_specs: 1}",
            ["nvidia.pass_device_specs: 1", "expected true or false"],
        ),
        (
            "nvidia: {device_list_strategy: []}",
            ["nvidia.device_list_strategy: []", "one"],
        ),
        ("nvidia: {device_list_strategy: [envar]}", ["device_list_strategy[0]", "'envar'"]),
        ("nvidia: 7", ["nvidia: 7", "expected keys and values"]),
        (
            "mig: {instances: [{name: mig-1g.5gb, memory: lots}]}",
            ["[0].memory: 'lots'", "5GiB"],
        ),
        (
            "mig: {instances: [{name: gpu, memory: 5GiB}]}",
            ["mig.instances[0].name: 'gpu'", "mig-"],
        ),
        ("mig: {instances: [{memory: 5GiB}]}", ["mig.instances[0].name", "required"]),
        ("mig: {provision: true}", ["mig.instances: None", "what is made of each GPU"]),
        (
            "mig: {provision: true, instances: [{name: mig-big, memory: 5GiB}]}",
            ["mig.instances", "as mig-1g.5gb", "mig-big is none"],
        ),
        (
            "mig: {instances: [{name: mig-1g.5gb, memory: 5GiB, count: 2}]}",
            ["mig.instances", "a count beside provision: true alone", "mig-1g.5gb has one"],
        ),
        (
            "mig: {provision: true, instances: [{name: mig-1g.5gb, memory: 5GiB, count: 65}]}",
            ["mig.instances[0].count: 65", "64"],
        ),
        (
            "mxgpu: {provision: true, instances: [{name: a, memory: 4G}, {name: b, memory: 8G}]}",
            ["mxgpu.instances", "one with a count", "partitions with select"],
        ),
        ("intel_xe: {provision: true}", ["intel_xe.instances", "what is made of each GPU"]),
        ("mig: {scheduling: {policy: fastest}}", ["mig.scheduling.policy", "fair_share"]),
        ("migg: {}", ["migg", "did you mean 'mig'"]),
        ("vendors: [nvidia, voodoo]", ["vendors", "'voodoo'", "nvidia"]),
        ("vendors: 3", ["vendors", "3"]),
        ("log_level: loud", ["log_level", "'loud'", "debug, info, warning, error"]),
        ("metrics_address: nowhere", ["metrics_address", "'nowhere'", "HOST:PORT"]),
        (
            "nvidia: {cdi_hook_path: /opt/x/run-me}",
            ["nvidia.cdi_hook_path", "'/opt/x/run-me'", "nvidia-cdi-hook or nvidia-ctk"],
        ),
        ("node_name: UPPER", ["node_name", "'UPPER'"]),
        ("- a\n- b", ["config.yaml", "mapping"]),
        ("a: [", ["config.yaml", "YAML"]),
        ("nvidia: {}\nnvidia: {}", ["'nvidia' is there twice"]),
        ("a: &x {}\nb: *x", ["alias *x is not allowed"]),
        ("a: " + "[" * 3000, ["config.yaml", "nested too deeply"]),
        ("a: 1\nb: !!int text", ["'text'", "line 2"]),
        ("a: " + "1" * 101, ["more than 100 characters"]),
        ('"a\\nb": 1', ["'a\\nb'", "known key"]),
        ('state_dir: "/\\0"', ["a character that text cannot have"]),
        ("metrics_address: a..b:1", ["metrics_address", "HOST:PORT"]),
        ("health: {hold_s: .nan}", ["health.hold_s", "expected a number from 0 to 2592000"]),
        ("version: v1\nnvidia: [1]", ["nvidia: [1]", "keys and values"]),
        ("version: v1\nrules: 5", ["rules: 5", "a list"]),
    ],
)
def test_a_bad_value_is_one_line_that_names_key_value_and_choice(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    line = refused("--config", config_file(tmp_path, text))
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("text", "arguments", "variables", "pods"),
    [
        ("{}", [], {}, None),
        ("{}", ["--expose-pods"], {}, True),
        ("metrics: {pods: false}", ["--expose-pods"], {}, True),
        ("{}", [], {"DEVICEPLUGIN_EXPOSE_PODS": "true"}, True),
        ("metrics: {pods: true}", [], {"DEVICEPLUGIN_EXPOSE_PODS": "false"}, True),
    ],
    ids=["unset", "flag", "flag-over-file", "variable", "false-is-unset"],
)
def test_pods_are_exposed_by_a_flag(
    text: str,
    arguments: list[str],
    variables: dict[str, str],
    pods: bool | None,  # a column
    tmp_path: Path,
) -> None:
    document = checked("--config", config_file(tmp_path, text), *arguments, **variables)
    assert document["metrics"]["pods"] is pods


def test_a_file_exposes_pods_by_another_key(tmp_path: Path) -> None:
    assert "metrics.pods" in refused("--config", config_file(tmp_path, "expose_pods: true"))


@pytest.mark.parametrize("command", ["run", "discover", "check"])
def test_every_command_refuses_a_bad_flag_in_the_same_way(command: str) -> None:
    line = refused("--vendors", "voodoo", command=command)
    assert "--vendors" in line
    assert "'voodoo'" in line


def test_a_bad_variable_is_named_as_such() -> None:
    assert "DEVICEPLUGIN_LOG_FORMAT" in refused(DEVICEPLUGIN_LOG_FORMAT="xml")


def test_an_unknown_flag_is_one_line() -> None:
    assert "--voodoo" in refused("--voodoo", "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nothing.yaml" in refused("--config", str(tmp_path / "nothing.yaml"))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    assert "bytes" in refused("--config", config_file(tmp_path, "#" * MAX_BYTES + "\nx"))


def test_help_names_every_setting() -> None:
    text = run_command("run", "--help").stdout
    for flag in ("config", "node-name", "vendors", "host-root", "kubelet-dir", "cdi-dir"):
        assert f"--{flag}" in text


@pytest.mark.parametrize(
    "command",
    ["", "run", "discover", "vendors", "check", "explain", "demo", "health", "cordon", "uncordon"],
)
def test_help_does_not_need_docstrings(command: str) -> None:
    asked = [*command.split(), "--help"]
    text = run_command(*asked).stdout
    assert len(text.splitlines()) > 6
    assert run_command(*asked, PYTHONOPTIMIZE="2").stdout == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        ("127.0.0.1:9440", ("127.0.0.1", 9440)),
        (":9440", ("0.0.0.0", 9440)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int] | None) -> None:
    assert parse_address(Setting(text, "x")) == address


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_a_configuration_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(read_config_files(path).raw, dict)
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("address", ["[::1]:9440", "127.0.0.1:0", ""])
def test_an_address_is_shown_as_it_is_configured(tmp_path: Path, address: str) -> None:
    shown = checked("--config", config_file(tmp_path, f'metrics_address: "{address}"'))
    assert shown["metrics_address"] == address


def test_what_looks_like_a_date_is_text(tmp_path: Path) -> None:
    shown = checked("--config", config_file(tmp_path, "node_name: 2001-02-03"))
    assert shown["node_name"] == "2001-02-03"
