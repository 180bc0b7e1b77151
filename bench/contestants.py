"""Who is measured in one run, in turns: this daemon, other checkouts of it, other plugins."""

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct

from bench.nodes import SHIPPED, Bench, Node
from deviceplugin.runtime.control import ControlError, ask_daemon
from tests.rig import environment

READY_S = 120.0
_END_S = 10.0
_SHARE = re.compile(r"(-\d+[mg]i)?-m\d+$|::\d+$")  # what makes an id one of several of a GPU
_SOCKETS = "/var/lib/kubelet/device-plugins"
# A namespace of mounts of its own: a plugin that knows only the usual paths finds the node there.
_IN_PLACE = f"""
mount --bind "$SOCKETS" {_SOCKETS} && mount --bind "$HOST_ROOT/dev" /dev
for part in sys/class sys/bus sys/devices sys/module; do
  test -d "$HOST_ROOT/$part" && mount --bind "$HOST_ROOT/$part" "/$part"
done
exec "$0"
"""


class Contestant(Struct, frozen=True, kw_only=True):
    """Without `tree` and `binary` it is this checkout; `tree` is another one, `binary` another
    plugin, or a script that starts one."""

    name: str
    tree: Path | None = None
    binary: Path | None = None

    def command(self, bench: Bench) -> list[str]:
        """How it is started for this node."""
        if self.binary is None:
            return bench.command()
        return ["unshare", "--mount", "sh", "-c", _IN_PLACE, str(self.binary.resolve())]

    def environment(self, bench: Bench) -> Mapping[str, str]:
        """With the node's directories for a binary, and the modules for a checkout."""
        rig = bench.rig
        if self.binary is not None:
            return environment() | {
                "SOCKETS": str(rig.kubelet_dir / "device-plugins"),
                "HOST_ROOT": str(rig.host_root),
            }
        if self.tree is None:
            return environment() | SHIPPED
        other = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(self.tree.resolve())}
        return environment() | SHIPPED | other


class Started:
    """A contestant that serves a node; its output is a file beside the node."""

    def __init__(self, contestant: Contestant, root: Path, node: Node) -> None:
        self.contestant, self.root = contestant, root
        root.mkdir()
        self.bench = Bench(root, node)
        self.began_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._process is not None, "it has not been started"
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again."""
        command = self.contestant.command(self.bench)
        self.began_s = time.perf_counter()
        with (self.root / "output").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=dict(self.contestant.environment(self.bench))
            )

    def end(self) -> None:
        """End it, as the kubelet does."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        process.kill()
        process.wait()

    async def listed(self) -> float:
        """Wait for what the node has, of another plugin for any list; when it came."""
        kubelet = self.bench.kubelet
        if self.contestant.binary is None:
            return await kubelet.listed(*self.bench.node.sizes)
        async with asyncio.timeout(READY_S):
            await kubelet.changes.until(lambda: any(s.message for s in kubelet.streams.values()))
        return max(stream.at_s for stream in kubelet.streams.values())

    async def fault(self) -> float:
        """The seconds from an operator's cordon of a GPU to the list of its resource without it;
        the cordon has ended then."""
        kubelet, state = self.bench.kubelet, self.bench.rig.state_dir
        stream = min(kubelet.streams.values(), key=lambda stream: len(stream.message))
        request = {"device": _SHARE.sub("", next(iter(stream.devices))), "reason": "measured"}
        began = time.perf_counter()
        await asyncio.to_thread(_ask, state, {**request, "operation": "cordon"})
        await kubelet.changes.until(lambda: stream.faulty)
        spent = stream.at_s - began
        del request["reason"]
        await asyncio.to_thread(_ask, state, {**request, "operation": "uncordon"})
        await kubelet.changes.until(lambda: not stream.faulty)
        return spent


def _ask(state: Path, request: Mapping[str, str]) -> None:
    """On a busy machine the answer may be that it is in force and not saved yet."""
    with suppress(ControlError):
        ask_daemon(state, request)


@asynccontextmanager
async def serving(node: Node, who: Sequence[Contestant]) -> AsyncIterator[Sequence[Started]]:
    """Each of them on such a node of its own, listed."""
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        started = [Started(c, Path(directory) / str(n), node) for n, c in enumerate(who)]
        try:
            for one in started:
                await one.bench.kubelet.start()
                one.start()
                await one.listed()
            yield started
        finally:
            for one in started:
                one.end()
                await one.bench.kubelet.close()


def add_contestants(parser: argparse.ArgumentParser) -> None:
    """The flags that say who is measured beside this daemon."""
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH")


def contestants(trees: Sequence[str], peers: Sequence[str]) -> Sequence[Contestant]:
    """This daemon, then those of `NAME=PATH`; raises SystemExit for what is not there."""
    found = [Contestant(name="this daemon")]
    for text in (*trees, *peers):
        name, equals, path = text.partition("=")
        if not (name and equals and Path(path).exists()):
            sys.exit(f"{text!r} is not NAME=PATH of something that is there")
        tree = Path(path) if text in trees else None
        found.append(Contestant(name=name, tree=tree, binary=None if tree else Path(path)))
    if peers and os.geteuid() != 0:
        sys.exit("--peer needs root: the plugin is started in a namespace of mounts of its own")
    return found
