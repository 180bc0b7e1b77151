"""`deviceplugin runtime`: what the installed runtime needs, and whether it has it."""

import json
import tomllib
from pathlib import Path

import pytest

from deviceplugin.cli.runtime import CDI_DIRS, advice, differences, rendered
from deviceplugin.errors import ConfigError
from deviceplugin.host import Host
from tests.fakes.go import write_go_program
from tests.host.test_runtimes import CRIO, FIRST, SECOND, containerd, cri


def host(root: Path) -> Host:
    (root / "host").mkdir(exist_ok=True)
    return Host(root / "host")


def version(text: str) -> tuple[str, ...]:
    return (f"build\t-ldflags=-X github.com/containerd/containerd/version.Version=v{text}",)


def install(root: Path, *programs: str) -> None:
    for program in programs:
        path = root / "host/usr/bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def test_containerd_2_gets_a_drop_in_of_version_3(tmp_path: Path) -> None:
    containerd(tmp_path, lines=version("2.2.0"))
    install(tmp_path, "nvidia-container-runtime", "amd-container-runtime")
    told = advice(host(tmp_path), "containerd")
    assert told.file == "/etc/containerd/conf.d/deviceplugin.toml"
    document = tomllib.loads(rendered(told))
    plugin = document["plugins"]["io.containerd.cri.v1.runtime"]
    assert (document["version"], plugin["enable_cdi"]) == (3, True)
    assert plugin["cdi_spec_dirs"] == CDI_DIRS
    runtimes = plugin["containerd"]["runtimes"]
    assert runtimes["amd"]["options"]["BinaryName"] == "/usr/bin/amd-container-runtime"
    assert runtimes.keys() == {"nvidia", "amd"}
    assert "intel-container-runtime does not exist" in rendered(told)
    assert "imports" not in rendered(told)


def test_containerd_2_0_is_told_to_import_it(tmp_path: Path) -> None:
    containerd(tmp_path, lines=version("2.0.1"))
    assert 'imports = ["/etc/containerd/conf.d/*.toml"]' in rendered(
        advice(host(tmp_path), "containerd")
    )


def test_containerd_1_7_gets_its_own_file_of_version_2(tmp_path: Path) -> None:
    containerd(tmp_path, package=FIRST, lines=version("1.7.20"))
    told = advice(host(tmp_path), "containerd")
    assert told.file == "/etc/containerd/config.toml"
    assert tomllib.loads(rendered(told))["version"] == 2
    assert [line.partition(" is ")[0] for line in differences(told)] == [
        "plugins.io.containerd.grpc.v1.cri.enable_cdi"
    ]


def test_containerd_1_6_is_refused(tmp_path: Path) -> None:
    containerd(tmp_path, package=FIRST, lines=version("1.6.33"))
    with pytest.raises(ConfigError, match=r"containerd 1\.7 or newer"):
        advice(host(tmp_path), "containerd")


def test_what_is_so_by_default_is_no_difference(tmp_path: Path) -> None:
    containerd(tmp_path, "version = 3\n", package=SECOND, lines=version("2.1.0"))
    assert differences(advice(host(tmp_path), "containerd")) == []


@pytest.mark.parametrize("number", [2, 3])
def test_cdi_that_is_off_is_a_difference_in_both_versions_of_the_file(
    tmp_path: Path, number: int
) -> None:
    containerd(tmp_path, cri(number, "enable_cdi = false"), lines=version("2.1.0"))
    (line,) = differences(advice(host(tmp_path), "containerd"))
    assert line.endswith("enable_cdi is false, should be true")


def test_more_directories_than_ours_are_no_difference(tmp_path: Path) -> None:
    body = "cdi_spec_dirs = ['/opt/cdi', '/etc/cdi/', '/var/run/cdi']"
    containerd(tmp_path, cri(3, body), lines=version("2.1.0"))
    assert differences(advice(host(tmp_path), "containerd")) == []


def test_a_vendors_runtime_that_is_installed_and_not_configured_is_a_difference(
    tmp_path: Path,
) -> None:
    containerd(tmp_path, lines=version("2.2.0"))
    install(tmp_path, "nvidia-container-runtime")
    found = differences(advice(host(tmp_path), "containerd"))
    assert [line.partition(" is ")[0].rpartition(".")[2] for line in found] == [
        "runtime_type",
        "BinaryName",
    ]


def test_what_is_printed_leaves_no_difference(tmp_path: Path) -> None:
    install(tmp_path, "nvidia-container-runtime")
    write_go_program(tmp_path / "host/usr/bin/crio", CRIO)
    told = advice(host(tmp_path), "crio")
    assert differences(told)
    path = tmp_path / "host" / told.file.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(rendered(told))
    assert differences(advice(host(tmp_path), "crio")) == []


def test_dockers_file_is_json_behind_its_notes(tmp_path: Path) -> None:
    install(tmp_path, "nvidia-container-runtime")
    text = rendered(advice(host(tmp_path), "docker"))
    document = json.loads(text[text.index("{") :])
    assert document["features"] == {"cdi": True}
    assert document["runtimes"]["nvidia"]["path"] == "/usr/bin/nvidia-container-runtime"


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "host/etc/docker/daemon.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(ConfigError, match="JSON"):
        advice(host(tmp_path), "docker")
