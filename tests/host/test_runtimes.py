"""Whether the node's container runtime honours CDI names: a doubt is a no, with the reason."""

import os
import shutil
from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.host.programs import read_go_program
from deviceplugin.host.runtimes import CdiSupport, read_cdi_support, running_by
from deviceplugin.testing.tree import write_tree
from tests.fakes.go import write_go_program

SECOND = "github.com/containerd/containerd/v2/cmd/containerd"
FIRST = "github.com/containerd/containerd/cmd/containerd"
CRIO = "github.com/cri-o/cri-o/cmd/crio"
ELF = b"\x7fELF\x02\x01"
CONFIG = "/etc/containerd/config.toml"
SANDBOX = "io.containerd.grpc.v1.cri/sandboxes/1f/resolv.conf"
IN_CONTAINERD = f"1 2 8:1 /var/lib/containerd/{SANDBOX} /etc/resolv.conf rw - ext4 /dev/sda1 rw"
IN_CRIO = (
    "1 2 0:9 /containers/storage/overlay-containers/1f/userdata/resolv.conf /etc/resolv.conf rw"
    " - tmpfs tmpfs rw"
)
IN_DOCKER = "1 2 8:1 /var/lib/docker/containers/1f/resolv.conf /etc/resolv.conf rw - ext4 /dev/a rw"


def judged(root: Path, mounts: str = "") -> CdiSupport:
    """The judgement of a process with these mounts, on a host below `root`."""
    own = root / "own"
    write_tree(own, f"/proc/self/mountinfo = {mounts}")
    return read_cdi_support(Host(root / "host"), Host(own))


def containerd(root: Path, *toml: str, package: str = SECOND, lines: tuple[str, ...] = ()) -> None:
    write_go_program(root / "host/usr/bin/containerd", package, *lines)
    (root / "host/etc/containerd").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(toml):
        name = "config.toml" if number == 0 else f"conf.d/{number}.toml"
        path = root / "host/etc/containerd" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def cri(version: int, body: str) -> str:
    name = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}[version]
    return f"version = {version}\n[plugins.'{name}']\n{body}\n"


NVIDIAS = cri(3, "[plugins.'io.containerd.cri.v1.runtime'.containerd]") + (
    "default_runtime_name = 'nvidia-cdi'\n"
)


@pytest.mark.parametrize(
    "toml",
    [
        (),
        ("version = 3\n",),
        (cri(3, "enable_cdi = true"),),
        (cri(2, "enable_cdi = true\ncdi_spec_dirs = ['/etc/cdi', '/var/run/cdi/']"),),
        (cri(3, "max_container_log_line_size = 1"), cri(3, "cdi_spec_dirs = ['/run/cdi']")),
    ],
    ids=["no-file", "nothing-said", "on", "version-2", "drop-in"],
)
def test_containerd_2_honours_cdi_where_its_files_do_not_turn_it_off(
    tmp_path: Path, toml: tuple[str, ...]
) -> None:
    containerd(tmp_path, *toml)
    assert judged(tmp_path) == CdiSupport(honoured=True, reason="containerd 2.x honours CDI names")


def test_the_version_is_told_where_the_program_has_it(tmp_path: Path) -> None:
    flag = "-X github.com/containerd/containerd/v2/version.Version=v2.1.4"
    flags = f'build\t-ldflags="{flag} -X a=b"'
    containerd(tmp_path, lines=(flags,))
    assert judged(tmp_path).reason == "containerd 2.1 honours CDI names"


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ((cri(3, "enable_cdi = false"),), "containerd 2.x has CDI turned off"),
        ((cri(3, "enable_cdi = true"), cri(3, "enable_cdi = false")), "has CDI turned off"),
        ((cri(3, "enable_cdi = false"), cri(3, "enable_cdi = true")), "has CDI turned off"),
        ((cri(3, "cdi_spec_dirs = ['/etc/cdi']"),), "does not read /var/run/cdi"),
        ((cri(3, "cdi_spec_dirs = 7"),), "does not read /var/run/cdi"),
        ((NVIDIAS,), "runs every container by NVIDIA's runtime"),
        (("disabled_plugins = ['cri']",), "does not run pods"),
        (("version = ",), "config.toml: "),
        (("imports = ['/etc/*/x.toml']",), "imports of several folders"),
    ],
    ids=[
        "off",
        "off-later",
        "off-before",
        "other-folder",
        "no-list",
        "nvidia",
        "docker",
        "bad",
        "globs",
    ],
)
def test_what_its_files_say_against_it_counts(
    tmp_path: Path, toml: tuple[str, ...], reason: str
) -> None:
    containerd(tmp_path, *toml)
    found = judged(tmp_path)
    assert not found.honoured
    assert reason in found.reason
    assert found.remedy


@pytest.mark.parametrize("imports", ["['more/*.toml']", "['./more/a.toml']", "['ABS']"])
def test_imports_are_read_as_containerd_reads_them(tmp_path: Path, imports: str) -> None:
    containerd(tmp_path, f"imports = {imports.replace('ABS', '/etc/containerd/more/a.toml')}\n")
    more = tmp_path / "host/etc/containerd/more"
    more.mkdir()
    (more / "a.toml").write_text("imports = ['/etc/containerd/config.toml', 'b.toml']\n")
    (more / "b.toml").write_text(cri(3, "enable_cdi = false"))
    assert "turned off" in judged(tmp_path).reason


@pytest.mark.parametrize(
    ("version", "toml", "honoured"),
    [
        ("v1.7.27", (cri(2, "enable_cdi = true"),), True),
        ("v1.7.27", (), False),
        ("v1.7.27", (cri(2, "enable_cdi = true"), cri(2, "disable_cgroup = true")), False),
        ("v1.6.36", (cri(2, "enable_cdi = true"),), False),
        ("(devel)", (cri(2, "enable_cdi = true"),), False),
    ],
    ids=["1.7-on", "1.7-default", "1.7-replaced", "1.6", "unknown"],
)
def test_containerd_1_honours_it_from_7_on_where_it_is_turned_on(
    tmp_path: Path, version: str, toml: tuple[str, ...], *, honoured: bool
) -> None:
    lines = (f"mod\tgithub.com/containerd/containerd\t{version}",)
    containerd(tmp_path, *toml, package=FIRST, lines=lines)
    found = judged(tmp_path)
    assert found.honoured is honoured
    assert honoured or found.remedy in ("containerd 2", f"enable_cdi = true in {CONFIG}")


def crio(root: Path, body: str = "") -> None:
    write_go_program(root / "host/usr/bin/crio", CRIO)
    folder = root / "host/etc/crio/crio.conf.d"
    folder.mkdir(parents=True)
    (folder / "10-crio.conf").write_text(f"[crio.runtime]\n{body}\n")


def test_crio_has_no_switch_but_reads_only_its_folders(tmp_path: Path) -> None:
    crio(tmp_path)
    assert judged(tmp_path, IN_CRIO) == CdiSupport(honoured=True, reason="CRI-O honours CDI names")
    shutil.rmtree(tmp_path / "host/etc/crio")
    assert "/etc/crio of the host is not to be seen" in judged(tmp_path, IN_CRIO).reason
    crio(tmp_path, "cdi_spec_dirs = ['/etc/cdi']")
    assert "does not read /var/run/cdi" in judged(tmp_path, IN_CRIO).reason
    shutil.rmtree(tmp_path / "host/etc/crio")
    crio(tmp_path, "default_runtime = 'nvidia'")
    assert "NVIDIA's runtime" in judged(tmp_path, IN_CRIO).reason


def test_of_two_runtimes_that_of_our_own_container_counts(tmp_path: Path) -> None:
    containerd(tmp_path, cri(3, "enable_cdi = false"))
    crio(tmp_path)
    assert judged(tmp_path, IN_CRIO).honoured
    assert judged(tmp_path, IN_CONTAINERD).reason == "containerd 2.x has CDI turned off"
    assert judged(tmp_path).reason == "containerd and CRI-O are both installed"


def test_a_runtime_that_runs_no_pods_says_nothing(tmp_path: Path) -> None:
    containerd(tmp_path)
    assert judged(tmp_path, IN_CONTAINERD).honoured
    assert "pods are run by Docker" in judged(tmp_path, IN_DOCKER).reason
    assert "pods are run by CRI-O" in judged(tmp_path, IN_CRIO).reason


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/var/lib/containerd/", "containerd"),
        ("/", "containerd"),
        ("/lib/containerd/", "containerd"),
        ("/var/lib/docker/volumes/0f/_data/lib/containerd/", "containerd"),
        ("/var/lib/rancher/k3s/agent/containerd/", "containerd in /var/lib/rancher/k3s/agent/"),
        ("/var/snap/microk8s/common/var/lib/containerd/", "containerd in /var/snap/"),
    ],
    ids=["usual", "own-disk", "var-is-a-disk", "kind", "k3s", "microk8s"],
)
def test_whose_container_this_is_shows_in_its_mounts(data: str, name: str) -> None:
    line = IN_CONTAINERD.replace("/var/lib/containerd/", data)
    found = running_by(f"1 2 0:1 / / rw - overlay overlay rw\n{line}\n")
    assert found is not None
    assert found == name or (found.startswith(name) and name != "containerd")


def test_the_mounts_of_a_machine_say_nothing() -> None:
    assert running_by("") is None
    assert running_by("22 27 0:21 / /proc rw - proc proc rw\nnonsense\n") is None
    assert running_by("27 1 8:1 / / rw - ext4 /dev/sda1 rw\n") is None


def test_without_a_program_or_its_folder_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    assert "no containerd or CRI-O is in /usr/bin" in judged(tmp_path, IN_DOCKER).reason
    containerd(tmp_path)
    shutil.rmtree(tmp_path / "host/etc/containerd")
    assert "/etc/containerd of the host is not to be seen" in judged(tmp_path).reason


def test_a_file_behind_a_link_that_is_not_to_be_seen_is_not_an_empty_one(tmp_path: Path) -> None:
    containerd(tmp_path)
    (tmp_path / "host/etc/containerd/config.toml").symlink_to("/nix/store/1-config.toml")
    assert "leads to a file that is not to be seen" in judged(tmp_path).reason


def test_a_program_is_found_through_links_of_the_host(tmp_path: Path) -> None:
    containerd(tmp_path)
    program = tmp_path / "host/usr/bin/containerd"
    (tmp_path / "host/opt").mkdir()
    program.rename(tmp_path / "host/opt/containerd")
    program.symlink_to("/opt/containerd")
    assert judged(tmp_path).honoured


@pytest.mark.parametrize(
    "content",
    [b"", b"#!/bin/sh\n", ELF, ELF + b"\xff" * 300, b"\x7fELF\x01" * 90],
    ids=["empty", "script", "short", "wild", "32-bit"],
)
def test_what_is_no_program_of_go_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "program").write_bytes(content)
    assert read_go_program(Host(tmp_path), "/program") is None
    assert read_go_program(Host(tmp_path), "/absent") is None
    assert read_go_program(Host(tmp_path), "/") is None


def test_a_program_of_go_that_is_cut_or_changed_anywhere_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "program"
    write_go_program(path, SECOND, "mod\tx\tv1.2.3")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert read_go_program(Host(tmp_path), "/program") is None or place > len(whole) - 64
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        read_go_program(Host(tmp_path), "/program")


@pytest.mark.skipif(not os.path.exists("/usr/sbin/runc"), reason="no program of Go on this machine")
def test_a_real_program_of_go_is_read() -> None:
    program = read_go_program(Host(), "/usr/sbin/runc")
    assert program is not None
    assert program.package == "github.com/opencontainers/runc"
