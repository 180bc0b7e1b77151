"""Somebody puts things where the daemon reads and writes: nothing of his is followed, believed,
waited for or read without end, and nothing of others is written."""

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from deviceplugin.cdi.files import CdiFiles
from deviceplugin.config.last_good import load_or_last_good
from deviceplugin.errors import ConfigError, DiscoveryError, FilesError
from deviceplugin.files.below import open_below, open_by_name
from deviceplugin.files.reading import IrregularFileError, read_regular
from deviceplugin.health.file import FILE, read_state
from deviceplugin.health.records import FaultRecords
from deviceplugin.host import Host
from deviceplugin.kubelet.lifecycle import DEVICE_PLUGINS, OWN_DIRECTORY, endpoint_of
from deviceplugin.model import CdiSpec, ContainerEdits, Device, DeviceID, DeviceNode, ResourceName
from deviceplugin.placement.service import read_turns
from deviceplugin.runtime.control import _bind
from deviceplugin.runtime.files import own_directory, trusted_directory, write_atomically
from deviceplugin.runtime.lock import only_daemon
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.intel.links import FOLDER, OwnLinks, links_of
from tests.fakes.nvml import NvmlDouble
from tests.fakes.syscalls import Call, Faults, Point
from tests.rig import GPU, WAIT_S, Rig, environment

STRANGER = 1000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
KIND = "example.com/gpu"
NODE = ContainerEdits(device_nodes=(DeviceNode(path="/dev/x", host_path="/dev/x"),))
SPEC = CdiSpec(kind=KIND, devices={"a": NODE})
HUGE_BYTES = 3 << 30
Put = Callable[[Path], object]


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE_BYTES)


def of_a_stranger(path: Path) -> None:
    path.write_text("his")
    os.chown(path, STRANGER, STRANGER)


# Directories


@as_root
def test_a_directory_of_a_stranger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deviceplugin"
    path.mkdir()
    os.chown(path, STRANGER, STRANGER)
    for made in (own_directory, trusted_directory):
        with pytest.raises(PermissionError, match=f"belongs to user {STRANGER}") as caught:
            made(path)
        assert caught.value.filename == str(path)


@pytest.mark.parametrize("made", [own_directory, trusted_directory])
def test_a_link_is_no_directory_of_ours(tmp_path: Path, made: Callable[[Path], None]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(PermissionError, match="a link, not a directory"):
        made(tmp_path / "link")


def test_one_of_ours_that_is_open_is_closed_where_its_name_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "deviceplugin"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(PermissionError, match="mode 0777 lets others write it"):
        trusted_directory(path)
    own_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_directories_have_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        own_directory(tmp_path / "a/b")
        os.umask(0o077)
        trusted_directory(tmp_path / "c/d", 0o755)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "c", "c/d")]
    assert modes == [0o755, 0o750, 0o755, 0o755]


@as_root
async def test_a_foreign_socket_directory_is_named_and_served_from_once_it_is_ours(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    directory = rig.kubelet_dir / DEVICE_PLUGINS / OWN_DIRECTORY
    directory.mkdir()
    os.chown(directory, STRANGER, STRANGER)
    daemon = rig.start()
    await daemon.wait_event("resource_added")
    await daemon.until(
        lambda: any("belongs to user" in str(e.get("error")) for e in daemon.events("task_failed"))
    )
    ready = await daemon.answers("/readyz", 503)
    assert f"belongs to user {STRANGER}" in ready
    directory.rmdir()
    await rig.stub.wait_registered(GPU)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750


async def test_what_lies_where_a_socket_belongs_is_cleared_or_named(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    directory = rig.kubelet_dir / DEVICE_PLUGINS / OWN_DIRECTORY
    directory.mkdir(mode=0o750)
    path = directory / endpoint_of(ResourceName(GPU)).rpartition("/")[2]
    path.mkdir()
    rig.wrapper = ("sh", "-c", 'umask 0; exec "$@"', "sh")
    daemon = rig.start()
    await daemon.until(lambda: any(str(path) in str(e) for e in daemon.events("task_failed")))
    assert f"{path}: cannot be bound (Is a directory)" in await daemon.answers("/readyz", 503)
    path.rmdir()
    os.mkfifo(path)
    await rig.stub.wait_registered(GPU)
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0  # whatever umask it was started with


@as_root
async def test_a_foreign_state_directory_is_in_readyz_and_devices_are_served(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    rig.state_dir.mkdir()
    rig.state_dir.chmod(0o777)
    (rig.state_dir / FILE).symlink_to("/etc/passwd")
    daemon = rig.start()
    await rig.stub.wait_registered(GPU)
    assert "lets others write it" in await daemon.answers("/readyz", 503)
    rig.state_dir.chmod(0o750)
    await daemon.answers("/readyz")


@as_root
async def test_a_foreign_cdi_directory_is_named_once_and_retried(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    rig.cdi_dir.mkdir()
    rig.cdi_dir.chmod(0o777)
    daemon = rig.start("--config", str(rig.config("nvidia: {device_list_strategy: [cdi-cri]}")))
    event = await daemon.wait_event("cdi_files_not_written")
    assert "lets others write it" in event["reason"]
    async with asyncio.timeout(WAIT_S):
        while "lets others write" not in (await daemon.http("/readyz"))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    rig.cdi_dir.chmod(0o755)
    await rig.stub.wait_registered(GPU)
    assert len(daemon.events("cdi_files_not_written")) == 1


def test_links_are_given_from_no_directory_that_others_write(tmp_path: Path) -> None:
    nodes = ("/dev/dri/card0", "/dev/dri/renderD128")
    attributes = {"by_path": "pci-0000:03:00.0-card", "card": nodes[0]}
    gpu = Device(id=DeviceID("a"), vendor="intel", nodes=nodes, attributes=attributes)
    assert links_of([gpu])
    links = OwnLinks(Host(tmp_path))
    folder = tmp_path / FOLDER.lstrip("/")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert links.folder([gpu]) is None
    assert "lets others write it" in (links.problem or "")
    folder.chmod(0o755)
    assert links.folder([gpu]) is not None


# Writing


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_hard_link_at_the_temporary_name_is_not_written(tmp_path: Path, mode: int) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    os.link(victim, tmp_path / ".file.new")
    write_atomically(tmp_path / "file", b"ours", mode)
    assert victim.read_text() == "secret"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert (tmp_path / "file").read_bytes() == b"ours"


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(lambda path: path.symlink_to("victim"), id="link"),
        pytest.param(os.mkfifo, id="pipe"),
        pytest.param(lambda path: path.write_text("x"), id="file"),
        pytest.param(of_a_stranger, id="stranger", marks=as_root),
    ],
)
@pytest.mark.parametrize("name", [".file.new", "file"])
def test_what_lies_at_a_name_of_ours_is_replaced(tmp_path: Path, put: Put, name: str) -> None:
    (tmp_path / "victim").write_text("secret")
    put(tmp_path / name)
    assert write_atomically(tmp_path / "file", b"ours")
    status = (tmp_path / "file").lstat()
    assert stat.S_ISREG(status.st_mode)
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o644)
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert (tmp_path / "victim").read_text() == "secret"
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


@as_root
def test_a_strangers_file_with_our_content_is_replaced_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"ours")
    os.chown(path, STRANGER, STRANGER)
    assert write_atomically(path, b"ours")
    assert path.stat().st_uid == 0
    assert not write_atomically(path, b"ours")


def test_a_huge_file_in_our_place_costs_no_memory(tmp_path: Path) -> None:
    sparse(tmp_path / "file")
    tracemalloc.start()
    try:
        write_atomically(tmp_path / "file", b"ours")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert (tmp_path / "file").read_bytes() == b"ours"


def test_a_cdi_file_that_cannot_be_written_is_logged_once_for_each_reason(tmp_path: Path) -> None:
    files = CdiFiles(tmp_path, ["a"])
    (tmp_path / ".example.com-gpu.json.new").mkdir()
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(FilesError):
                files.write("a", [SPEC])
        (tmp_path / ".example.com-gpu.json.new").rmdir()
        files.write("a", [SPEC])
    assert [e["event"] for e in logs] == ["cdi_files_not_written", "cdi_file_written"]


async def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("victim")
    with capture_logs() as logs:
        async with only_daemon(tmp_path):
            pass
    assert [entry["event"] for entry in logs] == ["no_lock"]
    assert not (tmp_path / "victim").exists()


def test_the_control_socket_is_closed_to_others_from_its_first_moment(short_dir: Path) -> None:
    before = os.umask(0)
    try:
        listener = _bind(short_dir / "control.sock")
    finally:
        os.umask(before)
    assert stat.S_IMODE((short_dir / "control.sock").stat().st_mode) == 0o600
    listener.close()


# Reading

IRREGULAR = [
    pytest.param(os.mkfifo, "a pipe", id="pipe"),
    pytest.param(os.mkdir, "a directory", id="directory"),
    pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="device"),
]


@pytest.mark.parametrize(("put", "kind"), IRREGULAR)
def test_what_is_no_file_is_never_waited_for(tmp_path: Path, put: Put, kind: str) -> None:
    put(tmp_path / "file")
    with pytest.raises(IrregularFileError, match=f"it is {kind}, not a regular file"):
        read_regular(tmp_path / "file", 10)
    if kind != "a device":  # there is none below the root
        with pytest.raises(DiscoveryError, match=f"/file: it is {kind}"):
            Host(tmp_path).read_text("/file")


def test_a_device_in_the_host_s_tree_is_not_read(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "file", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    with pytest.raises(DiscoveryError, match=r"/file: (it is a device|Permission denied)"):
        Host(tmp_path).read_text("/file")


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(os.mkfifo, id="pipe"),
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), id="link"),
        pytest.param(sparse, id="huge"),
        pytest.param(of_a_stranger, id="stranger", marks=as_root),
    ],
)
def test_state_that_is_not_ours_is_set_aside_and_logged(tmp_path: Path, put: Put) -> None:
    put(tmp_path / FILE)
    with capture_logs() as logs:
        assert read_state(tmp_path).records == FaultRecords()
    assert [entry["event"] for entry in logs] == ["state_file_damaged"]
    assert os.listdir(tmp_path) == [f"{FILE}.damaged"]


def test_a_pipe_in_place_of_the_turns_is_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "turns")
    with capture_logs() as logs:
        assert read_turns(tmp_path / "turns") == ({}, {})
    assert [entry["event"] for entry in logs] == ["state_ignored"]


@as_root
def test_a_strangers_copy_of_the_configuration_is_not_used(tmp_path: Path) -> None:
    copy = tmp_path / "last-good-configuration.json"
    copy.write_text(json.dumps({"log_level": "debug"}))
    bad = tmp_path / "bad.yaml"
    bad.write_text("nonsense: 1")
    flags = {"config": str(bad), "state_dir": str(tmp_path)}
    assert load_or_last_good(flags).config.log_level == "debug"
    os.chown(copy, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match="nonsense"):
        load_or_last_good(flags)


# The host's root

OUTSIDE = """
/usr/lib64 -> {outside}
/up -> ../../../../../../../../{outside}/file
/sys/here -> ../inside
/inside/file = inside
/absolute -> /inside/file
/loop -> loop
"""


def test_no_read_leaves_the_host_s_root(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "host"
    outside.mkdir()
    (outside / "file").write_text("outside")
    write_tree(root, OUTSIDE.format(outside=outside))
    host = Host(root)
    assert host.read_text("/usr/lib64/file") is None
    assert host.read_names("/usr/lib64") == ()
    assert not host.exists("/usr/lib64/file")
    assert host.read_text("/up") is None
    assert host.read_link("/usr/lib64") == str(outside)
    assert host.read_text("/absolute") == "inside"
    assert host.read_text("/sys/here/file") == "inside"
    assert host.read_text("/../../inside/file") == "inside"
    with pytest.raises(DiscoveryError, match="symbolic links"):
        host.read_text("/loop")


NAMES = ("a", "b", "c")
PARTS = st.lists(st.sampled_from([*NAMES, "..", "."]), min_size=1, max_size=4)
TARGETS = st.builds(lambda absolute, parts: "/" * absolute + "/".join(parts), st.booleans(), PARTS)
ENTRIES = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.none() | TARGETS),
    max_size=8,
)
FLAGS = st.sampled_from(
    [os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY]
)


@given(ENTRIES, TARGETS, FLAGS)
def test_by_name_it_is_found_as_by_the_kernel(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[list[str], str | None]],
    path: str,
    flags: int,
) -> None:
    root = tmp_path_factory.mktemp("root")
    for parts, target in entries:
        place = root.joinpath(*parts)
        with suppress(OSError):
            if target is None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.mkdir()
            else:
                place.symlink_to(target)
    top = os.open(root, os.O_PATH)
    try:
        assert identity(lambda: open_by_name(top, path, flags)) == identity(
            lambda: open_below(str(root), path, flags)
        )
    finally:
        os.close(top)


def identity(opened: Callable[[], int]) -> object:
    try:
        descriptor = opened()
    except OSError as error:
        return error.errno
    try:
        status = os.fstat(descriptor)
        return status.st_ino, stat.S_IFMT(status.st_mode)
    finally:
        os.close(descriptor)


READING = """
import sys
from pathlib import Path
from deviceplugin.host import Host
host = Host(Path(sys.argv[1]))
print(host.read_text("/absolute"), host.read_text("/out/file"), host.read_names("/inside"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("error", [0, errno.ENOSYS, errno.EPERM], ids=["new", "old", "seccomp"])
def test_on_an_old_kernel_and_under_a_strict_filter_reads_are_the_same(
    tmp_path: Path, short_dir: Path, error: int
) -> None:
    root = short_dir / "host"
    write_tree(root, "/absolute -> /inside/file\n/inside/file = inside\n")
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "file").write_text("outside")
    faults = Faults(short_dir / "faults")
    if error:
        faults.fail(error, Point(Call.OPEN | Call.LIST, f"{root}/"))
    done = subprocess.run(
        [sys.executable, "-c", READING, str(root)],
        env=environment() | faults.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "inside None ('file',)", done.stderr
    assert (faults.fired > 0) == bool(error)
