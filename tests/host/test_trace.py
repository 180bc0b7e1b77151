"""What a look read is noted, and reading it again tells whether anything is different."""

import ast
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import read_gpus
from deviceplugin.host.trace import TracingHost, traced
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


PRIMITIVES = {"read_bytes", "read_names", "read_link", "exists", "untrusted"}
PURE = {"path"}


def methods(kind: type[Host]) -> list[str]:
    """What a host can be asked, each by a path on it."""
    return sorted(n for n, f in vars(kind).items() if callable(f) and not n.startswith("_"))


class LaterHost(Host):
    """A host with a method that somebody adds later."""

    def read_json(self, host_path: str) -> object:
        return json.loads(self.read_text(host_path) or "null")


class LaterTrace(TracingHost, LaterHost):
    """The trace of such a host, as it is without a word about the new method."""


@pytest.mark.parametrize("name", [*(m for m in methods(Host) if m not in PURE), "read_json"])
def test_no_read_of_a_host_escapes_the_trace(name: str, tmp_path: Path) -> None:
    trace = LaterTrace(root=tmp_path, host=Host(tmp_path), is_constant=lambda _: False)
    before = getattr(trace, name)("/a/b")
    assert trace.seen
    assert trace.holds()
    (tmp_path / "a").mkdir()
    if name == "read_names":
        (tmp_path / "a/b").mkdir()
        (tmp_path / "a/b/c").touch()
    elif "link" in name or name == "resolve":
        (tmp_path / "a/b").symlink_to("7")
    else:
        (tmp_path / "a/b").write_text("7")
    assert getattr(trace, name)("/a/b") != before
    assert not trace.holds()


def test_a_host_reads_by_five_methods_which_the_trace_overrides() -> None:
    overridden = {name for name in methods(TracingHost) if name in methods(Host)}
    assert overridden == PRIMITIVES
    tree = ast.parse(inspect.getsource(Host))
    assert isinstance(tree.body[0], ast.ClassDef)
    for function in tree.body[0].body:
        if isinstance(function, ast.FunctionDef) and function.name not in PRIMITIVES:
            calls = {ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
            direct = {c for c in calls if c.startswith(("os.", "open", "_read", "_open"))}
            assert {c for c in direct if not c.startswith("os.path.")} == set(), function.name
            assert direct <= {
                "os.path.basename",
                "os.path.dirname",
                "os.path.join",
                "os.path.normpath",
            }, function.name
            assert "self.path" not in calls, function.name


def test_a_number_that_became_readable_is_seen_though_it_is_an_identity(tmp_path: Path) -> None:
    write_tree(tmp_path, TREE)
    (tmp_path / GPU / "numa_node").write_text("banana")
    trace = traced(Host(tmp_path))
    look(trace)
    (tmp_path / GPU / "numa_node").write_text("1")
    assert not trace.holds()


@pytest.mark.parametrize(
    ("links", "real"),
    [
        ({}, None),
        ({"a": "b/c"}, "/x/b/c/end"),
        ({"a": "/x/b/c"}, "/x/b/c/end"),
        ({"a": "../../../x/b/../b/c"}, "/x/b/c/end"),
        ({"a": "a"}, None),
        ({"a": "nowhere"}, None),
    ],
    ids=["absent", "relative", "absolute", "above", "circle", "dangling"],
)
def test_a_real_path_is_that_of_a_process_in_this_root(
    links: dict[str, str], real: str | None, tmp_path: Path
) -> None:
    write_tree(tmp_path, "/x/b/c/end = 1")
    for name, target in links.items():
        (tmp_path / "x" / name).symlink_to(target)
    assert Host(tmp_path).read_real_path("/x/a/end") == real
