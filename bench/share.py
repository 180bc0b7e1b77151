"""The processor time that a pod gets on a busy node: processes in a cgroup, neighbours that never
rest in another."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NEIGHBOUR_MILLI = 1500
_BUSY = "while True: pass"
_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


def shares(milli: int) -> int:
    """The kubelet's cpu.shares for a request in thousandths of a core (cm/helpers_linux.go)."""
    return max(2, milli * 1024 // 1000)


def _weight(milli: int) -> int:
    """cpu.weight for these shares, as runc converts them: 2 to 262144 becomes 1 to 10000."""
    return 1 + (shares(milli) - 2) * 9999 // 262_142


def _group(name: str, milli: int) -> Path:
    """A new cgroup; raises OSError where we may not make one."""
    first = os.access(_V1 / "cpu.shares", os.W_OK)
    group = (_V1 if first else _V2) / f"deviceplugin-bench-{os.getpid()}-{name}"
    group.mkdir()
    file, value = ("cpu.shares", shares(milli)) if first else ("cpu.weight", _weight(milli))
    (group / file).write_text(str(value))
    return group


@contextmanager
def busy_node(milli: int, pids: Sequence[int]) -> Iterator[Callable[[int], None]]:
    """Give each process the share of a pod that requests so much, while a neighbour with six busy
    threads requests NEIGHBOUR_MILLI; the function puts another process there.

    Ends the program where no cgroup can be made.
    """
    groups: list[Path] = []
    busy: list[subprocess.Popen[bytes]] = []

    def put(pid: int) -> None:
        groups.append(_group(str(pid), milli))
        _move(groups[-1], pid)

    try:
        groups.append(_group("neighbour", NEIGHBOUR_MILLI))
        for _ in range(6):
            busy.append(subprocess.Popen([sys.executable, "-c", _BUSY]))
            _move(groups[0], busy[-1].pid)
        for pid in pids:
            put(pid)
        yield put
    except PermissionError as error:
        sys.exit(f"--share needs to make cgroups: {error}")
    finally:
        for process in busy:
            process.kill()
            process.wait()
        for group in groups:
            _empty(group)
            group.rmdir()


def _move(group: Path, pid: int) -> None:
    (group / "cgroup.procs").write_text(str(pid))


def _empty(group: Path) -> None:
    for pid in (group / "cgroup.procs").read_text().split():
        (group.parent / "cgroup.procs").write_text(pid)
