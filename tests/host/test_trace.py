"""What a look read is noted, and reading it again tells whether anything is different."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import read_gpus
from deviceplugin.host.trace import traced
from deviceplugin.testing.tree import write_tree

TREE = """
/sys/bus/pci/devices/0000:05:00.0/vendor = 0x1234
/sys/bus/pci/devices/0000:05:00.0/device = 0x0001
/sys/bus/pci/devices/0000:05:00.0/class = 0x030000
/sys/bus/pci/devices/0000:05:00.0/driver -> ../../../bus/pci/drivers/acme
/dev/acme0 = x
"""
GPU = "sys/bus/pci/devices/0000:05:00.0"


def look(host: Host) -> object:
    return read_gpus(host, 0x1234), host.exists("/dev/acme0"), host.read_int("/etc/count")


def rebind(root: Path) -> None:
    (root / GPU / "driver").unlink()
    (root / GPU / "driver").symlink_to("../../../bus/pci/drivers/vfio-pci")


def another_gpu(root: Path) -> None:
    (root / "sys/bus/pci/devices/0000:06:00.0").mkdir()


def absent_file_comes(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/count").write_text("3")


def unreadable_file_comes(root: Path) -> None:
    (root / "etc/count").mkdir(parents=True)


def node_goes(root: Path) -> None:
    (root / "dev/acme0").unlink()


CHANGES = (rebind, another_gpu, absent_file_comes, unreadable_file_comes, node_goes)


def test_a_trace_holds_while_nothing_changes(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    trace = traced(Host(tmp_path))
    assert look(trace) == look(Host(tmp_path))
    assert trace.holds()
    assert trace.holds()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_trace_does_not_hold_after(change: Callable[[Path], None], tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    trace = traced(Host(tmp_path))
    look(trace)
    change(tmp_path)
    assert not trace.holds()


def test_an_error_is_an_outcome_like_others(tmp_path: Path) -> None:
    (tmp_path / "etc/count").mkdir(parents=True)
    trace = traced(Host(tmp_path))
    with pytest.raises(DiscoveryError):
        trace.read_int("/etc/count")
    assert trace.holds()
    (tmp_path / "etc/count").rmdir()
    (tmp_path / "etc/count").write_text("3")
    assert not trace.holds()


def test_a_read_that_came_out_in_two_ways_never_holds(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    trace = traced(Host(tmp_path))
    trace.exists("/dev/acme0")
    node_goes(tmp_path)
    trace.exists("/dev/acme0")
    assert not trace.holds()


def test_what_is_constant_and_what_a_pci_function_is_are_not_read_again(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    trace = traced(Host(tmp_path), lambda path: path == "/dev/acme0")
    look(trace)
    node_goes(tmp_path)
    (tmp_path / GPU / "device").write_text("0x0002")
    assert trace.holds()


@pytest.mark.parametrize("name", sorted(n for n in vars(Host) if n.startswith(("read_", "exists"))))
def test_no_read_of_a_host_escapes_the_trace(name: str, tmp_path: Path) -> None:
    trace = traced(Host(tmp_path))
    extra = (4,) if name == "read_start" else ()
    before = getattr(trace, name)("/a/b", *extra)
    assert trace.holds()
    (tmp_path / "a").mkdir()
    if name == "read_names":
        (tmp_path / "a/b").mkdir()
        (tmp_path / "a/b/c").touch()
    elif "link" in name:
        (tmp_path / "a/b").symlink_to("7")
    else:
        (tmp_path / "a/b").write_text("7")
    assert getattr(trace, name)("/a/b", *extra) != before
    assert not trace.holds()
