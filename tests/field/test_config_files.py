"""Which files are read, which are not, and what they are taken for."""

import os
from pathlib import Path

import pytest

from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError
from deviceplugin.resources.plan import sharing_of

TIME_SLICING = """
version: v1
sharing:
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: 3
"""


def loaded(path: Path) -> Config:
    return load({"config": str(path)})[0]


def refused(path: Path) -> str:
    """The reason, one line."""
    with pytest.raises(ConfigError) as failure:
        loaded(path)
    (error,) = failure.value.errors
    return str(error)


def test_a_directory_whose_only_file_is_not_read_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "any").write_text(TIME_SLICING)
    text = refused(tmp_path)
    assert "not read because of their names: any (name one as any.yaml" in text
    assert f"--config {tmp_path}/any)" in text
    assert sharing_of(loaded(tmp_path / "any").sections).rules  # by its own name it is read


def test_an_empty_directory_is_refused_at_the_start_as_at_a_reload(tmp_path: Path) -> None:
    (tmp_path / ".hidden.yaml").write_text("x: 1")
    (tmp_path / "..data").mkdir()
    assert "a file *.yaml, *.yml or *.json in it" in refused(tmp_path)


def test_an_empty_file_stands_for_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    assert loaded(tmp_path).unread == ()


def test_files_that_are_passed_over_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("log_level: debug")
    for name in ("default", "a100-40gb", "b.toml", "c.conf"):
        (tmp_path / name).write_text("nonsense")
    names = [line.partition(":")[0] for line in loaded(tmp_path).unread]
    assert names == ["'a100-40gb'", "'b.toml'", "'c.conf'", "'default'"]


def test_two_files_of_nvidias_plugin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TIME_SLICING)
    (tmp_path / "b.yaml").write_text(TIME_SLICING.replace("3", "5"))
    assert "a.yaml and b.yaml have one, each is complete" in refused(tmp_path)


def test_a_file_of_nvidias_plugin_and_one_of_ours_are_one_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TIME_SLICING)
    (tmp_path / "b.yaml").write_text("log_level: debug")
    assert loaded(tmp_path).log_level == "debug"


@pytest.mark.parametrize("name", ["fifo", "dir/fifo.yaml"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    assert "expected a regular file: this is a pipe" in refused(
        path.parent if "/" in name else path
    )


@pytest.mark.parametrize(("path", "kind"), [("/dev/zero", "a device"), ("/dev/null", "a device")])
def test_other_things_than_files_are_refused(path: str, kind: str) -> None:
    assert f"expected a regular file: this is {kind}" in refused(Path(path))


def test_a_directory_named_as_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    assert "expected a regular file: this is a directory" in refused(tmp_path)


def test_every_bad_file_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text("- x")
    with pytest.raises(ConfigError) as failure:
        loaded(tmp_path)
    first, second = map(str, failure.value.errors)
    assert "a.yaml" in first
    assert "b.yaml" in second


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("config: {map: {default: 'version: v1'}}", "the values of a Helm chart"),
        ("devicePlugin: {enabled: true}\ntoolkit: {enabled: false}", "the values of a Helm chart"),
        ("devicePlugin: {enabled: true}", "devicePlugin: {'enabled': True} is not valid"),
        ("image: {repository: x}\nnodeSelector: {}", "the values of a Helm chart"),
        ("dp: {image: {repository: x}}", "it is a value of a Helm chart"),
    ],
)
def test_values_of_charts_are_recognised(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert reason in refused(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "flags", ["migStrategy: none, plugin: ", "plugin: {passDeviceSpecs: null}", "gfd: null"]
)
def test_a_null_of_nvidias_plugin_is_not_given(tmp_path: Path, flags: str) -> None:
    (tmp_path / "a.yaml").write_text(f"version: v1\nflags: {{{flags}}}\nsharing:\nresources: null")
    assert loaded(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("flags: {deviceListStrategy: envvar}", "'deviceListStrategy' belongs under flags.plugin"),
        ("flags: {plugin: {migStrategy: none}}", "'migStrategy' belongs under flags"),
        ("flags: {sleepInterval: 60s}", "'sleepInterval' belongs under flags.gfd"),
        ("sharing: {renameByDefault: true}", "belongs under sharing.mps or sharing.timeSlicing"),
    ],
)
def test_a_misplaced_key_of_nvidias_plugin_is_told_its_place(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "a.yaml").write_text(f"version: v1\n{text}")
    assert reason in refused(tmp_path / "a.yaml")
