"""Own mount and process namespaces, so that a kubelet on this machine touches nothing of it.

The kubelet's device-plugin directory is fixed in its code: below /var/lib/kubelet, over which a
directory of the test is bound. /dev is one of our own, where simulated GPUs have real nodes. When
the first process of the namespace is killed, the kernel ends all others and undoes every mount.
"""

import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

_SETUP = """
set -e
mount -t tmpfs -o mode=755 dev "$1/dev"
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/kmsg "$1/dev"
mkdir "$1/dev/pts" "$1/dev/shm"
mount --bind /dev/pts "$1/dev/pts"
mount --rbind "$1/dev" /dev
mkdir -p /var/lib/kubelet
mount --bind "$1/k" /var/lib/kubelet
echo ready
exec sleep infinity
"""
_NODES = (
    'while read -r path major minor; do mkdir -p "${path%/*}"; mknod "$path" c $major $minor; done'
)
_END_S = 30.0


class Node(Struct, frozen=True):
    """A character device that the sandbox's /dev has."""

    path: str
    major: int
    minor: int


class Sandbox:
    """The namespaces, with `root/k` as /var/lib/kubelet, and programs that run in them."""

    def __init__(self, root: Path) -> None:
        """Make them; needs root."""
        for name in ("dev", "k"):
            (root / name).mkdir(exist_ok=True)
        unshare = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork")
        self._first = subprocess.Popen(
            [*unshare, "--kill-child", "--mount-proc", "sh", "-c", _SETUP, "sh", str(root)],
            stdout=subprocess.PIPE,
        )
        assert self._first.stdout is not None
        if self._first.stdout.readline() != b"ready\n":
            raise RuntimeError(f"no namespaces: unshare ended with {self._first.wait()}")
        self._services: list[Service] = []
        namespaces = f"/proc/{self._first.pid}/ns"
        self._enter = (
            "nsenter",
            f"--mount={namespaces}/mnt",
            f"--pid={namespaces}/pid_for_children",
        )

    def run(self, *command: str, text: str = "") -> str:
        """What a command inside prints, given `text`; raises RuntimeError with its errors."""
        done = subprocess.run(
            [*self._enter, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def make_nodes(self, nodes: Iterable[Node]) -> None:
        """Make character devices in the sandbox's /dev."""
        lines = "".join(f"{node.path} {node.major} {node.minor}\n" for node in nodes)
        self.run("sh", "-ec", _NODES, text=lines)

    def spawn(self, log: Path, *command: str) -> "Service":
        """Start a program that stays."""
        pid_file = log.with_suffix(".pid")
        # Its pid inside: nsenter stays in between as its parent outside.
        announce = ("sh", "-c", 'echo $$ > "$0"; exec "$@"', str(pid_file))
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*self._enter, *announce, *command], stdout=out, stderr=out, start_new_session=True
            )
        service = Service(self, process, pid_file, log)
        self._services.append(service)
        return service

    def close(self) -> None:
        """Kill everything inside."""
        self._first.kill()
        for process in (self._first, *(service.process for service in self._services)):
            process.wait(_END_S)
        assert self._first.stdout is not None
        self._first.stdout.close()


class Service(Struct):
    """A program in the sandbox with its log."""

    sandbox: Sandbox
    process: subprocess.Popen[bytes]
    pid_file: Path
    log: Path

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        self.sandbox.run("kill", f"-{number.value}", self.pid_file.read_text().strip())
        self.process.wait(_END_S)

    def tail(self) -> str:
        """The log's end, for messages."""
        return self.log.read_text(errors="replace")[-4000:]
