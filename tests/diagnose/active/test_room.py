"""A test that a container has no memory for is not begun."""

from pathlib import Path

import pytest

from deviceplugin.diagnose.active.room import NEEDED, lacking_room
from deviceplugin.host import Host
from tests.telemetry.values import write_files

MIB = 1 << 20
V2, V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"


def v2(most: object, used: int, cache: int = 0, at: str = "") -> dict[str, str]:
    return {
        f"{V2}{at}/memory.max": f"{most}\n",
        f"{V2}{at}/memory.current": f"{used}\n",
        f"{V2}{at}/memory.stat": f"anon 5\ninactive_file {cache}\n",
    }


def v1(most: int, used: int) -> dict[str, str]:
    return {
        f"{V1}/memory.limit_in_bytes": f"{most}\n",
        f"{V1}/memory.usage_in_bytes": f"{used}\n",
    }


@pytest.mark.parametrize(
    "files",
    [
        {},
        v2("max", 90 * MIB),
        v2(NEEDED + 90 * MIB, 90 * MIB),
        v2(NEEDED + 60 * MIB, 90 * MIB, cache=30 * MIB),
        v1((1 << 63) - 4096, 90 * MIB),
    ],
    ids=["no cgroups", "no limit", "room", "room in the cache", "no limit of version 1"],
)
def test_a_test_is_begun_where_there_is_room(tmp_path: Path, files: dict[str, str]) -> None:
    write_files(tmp_path, {"/proc/self/cgroup": "0::/\n4:memory:/kubepods/x\n", **files})
    assert lacking_room(Host(tmp_path)) == ""


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/\n", v2(192 * MIB, 100 * MIB)),
        ("0::/../pod\n", v2(192 * MIB, 100 * MIB, at="/pod")),
        ("0::/pod/main\n", {**v2("max", 0, at="/pod/main"), **v2(192 * MIB, 100 * MIB, at="/pod")}),
        ("4:memory:/kubepods/x\n", v1(192 * MIB, 100 * MIB)),
    ],
    ids=["a container's", "with dots", "of the pod", "version 1"],
)
def test_what_is_missing_is_said(tmp_path: Path, own: str, files: dict[str, str]) -> None:
    write_files(tmp_path, {"/proc/self/cgroup": own, **files})
    assert lacking_room(Host(tmp_path)) == (
        "this container may have 92 MiB of memory more, a test needs 128:"
        " raise resources.limits.memory by 36Mi"
    )


def test_what_no_kernel_writes_is_no_limit(tmp_path: Path) -> None:
    write_files(tmp_path, {"/proc/self/cgroup": "::\nx\n0::/\n", f"{V2}/memory.max": "-5\n"})
    assert lacking_room(Host(tmp_path)) == ""
