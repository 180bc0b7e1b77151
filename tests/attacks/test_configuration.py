"""Somebody may change the configuration and nothing else: it grants no program, library or mount
beyond the drivers' own, and nothing that is installed is imported by the way."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.config.load import PLACES, load
from deviceplugin.config.notices import notice_lines
from deviceplugin.errors import ConfigError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.nvidia.driver_files import Driver, read_driver_files
from deviceplugin.vendors.nvidia.library import open_nvml
from deviceplugin.vendors.nvidia.mps import Mps
from tests.attacks.test_files import STRANGER, as_root
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.rig import run_command
from tests.third_party.plugin import WELL_BEHAVED, install

EMPTY_DIR = "/var/lib/kubelet/pods/0b9e/volumes/kubernetes.io~empty-dir/x"
IMAGE = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs/usr/bin"
VERSION = "550.163.01"


def given(document: Mapping[str, Any], directory: Path, **flags: str) -> Any:
    path = directory / "config.yaml"
    path.write_text(json.dumps(document))
    return load({"config": str(path), "host_root": "/host", **flags})[0]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("nvidia", "cdi_hook_path", f"{EMPTY_DIR}/evil"),
        ("nvidia", "cdi_hook_path", f"{EMPTY_DIR}/nvidia-ctk"),
        ("nvidia", "cdi_hook_path", f"{IMAGE}/nvidia-ctk"),
        ("nvidia", "cdi_hook_path", "/usr/bin/bash"),
        ("nvidia", "cdi_hook_path", "/usr/bin/../../tmp/nvidia-ctk"),
        ("nvidia", "cdi_hook_path", "/usrlocal/nvidia-ctk"),
        ("nvidia", "cdi_hook_path", "nvidia-ctk"),
        ("nvidia", "cdi_hook_path", "/usr/bin/\u202envidia-ctk"),
        ("nvidia", "driver_root", "/dev/shm/e"),
        ("nvidia", "driver_root", "//dev/./shm/e"),
        ("nvidia", "driver_root", "/proc/1/root"),
        ("nvidia", "driver_root", "/tmp"),
        ("nvidia", "driver_root", "/host/dev/shm"),
        ("nvidia", "driver_root", ""),
        ("nvidia", "driver_root", "/usr/" + "x" * 2000),
        ("nvidia", "driver_library_dirs", ["/usr/lib64", "/dev/shm"]),
        ("nvidia", "dev_root", EMPTY_DIR),
        ("nvidia", "dev_root", "/sys"),
        ("nvidia", "cdi_annotation_prefix", "io.katacontainers.config"),
        ("nvidia", "cdi_annotation_prefix", "x.io/a b\n"),
        ("amd", "rocm_path", "relative"),
        ("amd", "rocm_path", "/opt/rocm:/tmp\n"),
        ("amd", "rocm_path", "/opt/../tmp"),
        ("amd", "hsa_override_gfx_version", "11.0.0 LD_PRELOAD=/tmp/x"),
    ],
)
def test_a_path_out_of_place_is_one_error_of_its_key(
    tmp_path: Path, section: str, key: str, value: object
) -> None:
    with pytest.raises(ConfigError) as caught:
        given({section: {key: value}}, tmp_path)
    (error,) = caught.value.errors
    assert error.key.startswith(f"{section}.{key}")
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("root", "/dev"),
        ("root", "/run/nvidia/driver/dev"),
        ("root", "/"),
        ("root", "/run/nvidia/mps/../../.."),
        ("control", "/dev/shm/nvidia-cuda-mps-control"),
        ("control", "/host/dev/shm/nvidia-cuda-mps-control"),
        ("control", "/usr/bin/sh"),
        ("control", f"{EMPTY_DIR}/nvidia-cuda-mps-control"),
    ],
)
def test_mps_is_run_from_and_mounted_in_its_own_places_alone(
    tmp_path: Path, key: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        given({"sharing": {"mps": {key: value}}}, tmp_path)
    assert caught.value.key == f"sharing.mps.{key}"


@pytest.mark.parametrize(
    "section",
    [
        {"driver_root": "/"},
        {"driver_root": "/run/nvidia/driver", "dev_root": "/"},
        {"driver_root": "/home/kubernetes/bin/nvidia"},
        {"driver_library_dirs": ["/nix/store/x-nvidia/lib", "/opt/driver"]},
        {"cdi_hook_path": "/usr/local/nvidia/toolkit/nvidia-ctk"},
        {"cdi_hook_path": ""},
    ],
)
def test_where_drivers_are_by_custom_they_may_be(tmp_path: Path, section: object) -> None:
    given({"nvidia": section}, tmp_path)


def test_another_folder_is_named_by_the_template_and_by_nothing_else(tmp_path: Path) -> None:
    document = {"nvidia": {"driver_root": "/srv/driver"}}
    with pytest.raises(ConfigError, match="DEVICEPLUGIN_TRUSTED_DIRS, never by a file"):
        given(document, tmp_path)
    with pytest.raises(ConfigError, match=r"driver_root.*never by a file"):
        given({**document, "trusted_dirs": "/srv"}, tmp_path)
    given(document, tmp_path, trusted_dirs="/mnt,/srv")


@pytest.mark.parametrize("folders", ["/dev/shm", "/", "relative", "/srv,/proc", "/a/.."])
def test_not_even_the_template_may_trust_what_anybody_writes(tmp_path: Path, folders: str) -> None:
    with pytest.raises(ConfigError, match="--trusted-dirs"):
        given({}, tmp_path, trusted_dirs=folders)


@pytest.mark.parametrize("name", PLACES)
def test_a_file_sets_no_directory_and_a_notice_says_so(tmp_path: Path, name: str) -> None:
    before = given({}, tmp_path)
    config = given({name: "/his"}, tmp_path)
    assert getattr(config, name) == getattr(before, name)
    (line,) = notice_lines(config)
    assert line.startswith(f"without effect: {name}: no file sets it, so '/his' is not used: give")
    same = given({name: str(getattr(before, name)) if name != "trusted_dirs" else ""}, tmp_path)
    assert same.notes == ()


# What lies at a place where it may


def node(root: Path) -> NvmlDouble:
    double = NvmlDouble(root, scenario=Scenario(gpus=(a100_40gb(0),)))
    write_host_tree(root, double.scenario)
    return double


LIBRARY = "usr/lib64/libnvidia-ml.so.1"


def give(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def open_to_all(path: Path) -> None:
    path.chmod(0o777)


@as_root
@pytest.mark.parametrize(
    ("change", "of", "problem"),
    [
        (give, LIBRARY, f"libnvidia-ml.so.1 belongs to user {STRANGER}"),
        (give, "usr/lib64", f"/usr/lib64 belongs to user {STRANGER}"),
        (open_to_all, "usr", "/usr has mode 0777, so others can write it"),
        (open_to_all, "usr/lib64", "mode 0777"),
    ],
)
def test_a_library_that_others_can_replace_is_not_loaded(
    tmp_path: Path, change: Any, of: str, problem: str
) -> None:
    node(tmp_path)
    change(tmp_path / of)
    with pytest.raises(UnavailableError, match=f"is not loaded: .*{problem}"):
        open_nvml(Host(tmp_path), "/")


@as_root
def test_a_library_behind_a_strangers_link_is_not_loaded(tmp_path: Path) -> None:
    node(tmp_path)
    (tmp_path / "usr/lib64").rename(tmp_path / "usr/real")
    (tmp_path / "usr/lib64").symlink_to("real")
    give(tmp_path / "usr/lib64")
    with pytest.raises(UnavailableError, match=f"/usr/lib64 belongs to user {STRANGER}"):
        open_nvml(Host(tmp_path), "/")


def test_a_library_below_dev_is_not_loaded_whoever_owns_it(tmp_path: Path) -> None:
    node(tmp_path)
    (tmp_path / "dev/shm").mkdir(parents=True)
    (tmp_path / "usr/lib64").rename(tmp_path / "dev/shm/lib64")
    (tmp_path / "usr/lib64").symlink_to("/dev/shm/lib64")
    with pytest.raises(UnavailableError, match="/dev, where anybody has files"):
        open_nvml(Host(tmp_path), "/")


@as_root
def test_what_root_has_in_a_sticky_directory_is_roots(tmp_path: Path) -> None:
    write_tree(tmp_path, "/opt/lib/file = x")
    (tmp_path / "opt").chmod(0o1777)
    assert Host(tmp_path).untrusted("/opt/lib/file") is None
    (tmp_path / "opt").chmod(0o777)
    assert "mode 0777" in (Host(tmp_path).untrusted("/opt/lib/file") or "")


@as_root
def test_a_hook_of_a_stranger_is_not_named(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        f"/usr/lib64/libcuda.so.{VERSION} = x\n/usr/bin/nvidia-ctk = #!\n/opt/nvidia-ctk = #!",
    )
    host, driver = Host(tmp_path), Driver(root="/", version=VERSION)
    assert read_driver_files(host, driver).edits.hooks[0].path == "/usr/bin/nvidia-ctk"
    give(tmp_path / "usr/bin/nvidia-ctk")
    assert read_driver_files(host, driver).edits.hooks == ()
    named = Driver(root="/", version=VERSION, hook="/usr/bin/nvidia-ctk")
    found = read_driver_files(host, named)
    assert found.edits.hooks == ()
    assert "belongs to user" in (found.hook_problem or "")
    absent = read_driver_files(host, Driver(root="/", version=VERSION, hook="/opt/no/nvidia-ctk"))
    assert absent.edits.hooks == ()
    assert "is not used: No such file" in (absent.hook_problem or "")


@as_root
def test_a_control_program_of_a_stranger_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/nvidia-cuda-mps-control"
    write_tree(tmp_path, "/usr/bin/nvidia-cuda-mps-control = #!")
    program.chmod(0o755)
    Mps().prepare(Host(tmp_path), {})
    give(program)
    with pytest.raises(UnavailableError, match=f"is not run: .* belongs to user {STRANGER}"):
        Mps().prepare(Host(tmp_path), {})


# What is installed

LOUD = f'print("imported")\n{WELL_BEHAVED}'


@pytest.mark.slow
def test_a_vendor_that_is_not_asked_for_is_not_imported(tmp_path: Path) -> None:
    path = install(tmp_path, LOUD)
    asked = run_command("check", "--vendors", "nvidia,example", PYTHONPATH=path)
    every = run_command("check", PYTHONPATH=path)
    assert asked.stdout.startswith("imported")
    assert every.stdout.startswith("imported")
    other = run_command("check", "--vendors", "nvidia", PYTHONPATH=path)
    assert (other.returncode, "imported" in other.stdout) == (0, False)


@pytest.mark.slow
def test_its_section_is_no_error_and_has_no_effect(tmp_path: Path) -> None:
    path = install(tmp_path, LOUD)
    config = tmp_path / "config.yaml"
    config.write_text("example: {greeting: bye}\namd: {card_nodes: true}\n")
    done = run_command("check", "--vendors", "nvidia", "--config", str(config), PYTHONPATH=path)
    assert done.returncode == 0
    text = "without effect: example: no vendor that is asked for has it; not asked for are example"
    assert text in done.stderr.splitlines()
    config.write_text("amd: {card_node: true}\n")
    wrong = run_command("check", "--vendors", "nvidia", "--config", str(config), PYTHONPATH=path)
    assert wrong.returncode == 2
