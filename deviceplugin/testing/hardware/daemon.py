"""Our commands on this machine: `discover`, and `run` with a kubelet stub in its own directory.

Nothing of the node's is used but its hardware: not its configuration, no kubelet, no fixed port.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.testing.hardware.tools import Output
from deviceplugin.testing.kubelet import KubeletStub

LIMIT_S = 40.0
END_S = 20.0


class Running(Struct, frozen=True, kw_only=True):
    """`deviceplugin run` and the kubelet that it registers with."""

    stub: KubeletStub
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def state_dir(self) -> Path:
        """Where it keeps its state and its socket."""
        return self.log.parent / "state"

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return list(_documents(line for line in lines if line.startswith("{")))

    async def serves(self) -> bool:
        """Wait until it serves metrics: from then on SIGTERM ends it well. False where it ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while self.process.poll() is None:
                    if any(event.get("event") == "metrics_served" for event in self.events()):
                        return True
                    await asyncio.sleep(0.05)
        return False

    async def end(self) -> int | None:
        """SIGTERM; the exit status, None where it had to be killed."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return await asyncio.to_thread(self.process.wait, END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


def run_ours(module: str, *arguments: str) -> Output:
    """One of our own programs to its end, at most LIMIT_S seconds."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(  # noqa: S603  # our own module
            command, capture_output=True, timeout=LIMIT_S, check=False, env=environment()
        )
    except subprocess.TimeoutExpired:
        return Output(problem=f"{module} {arguments[0]} did not end within {LIMIT_S:g} s")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        status = f"{module} {arguments[0]} ended with status {done.returncode}"
        return Output(problem=": ".join([status, *said])[:300])
    return Output(text=done.stdout.decode("utf-8", "replace"))


# One round of samples is over long before the health watch is looked at.
_CONFIG = "telemetry: {enabled: true, interval_s: 1}\n"


@contextlib.asynccontextmanager
async def running(host_root: Path) -> AsyncIterator[Running]:
    """The daemon for as long as the context; it and its directory are gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="d"))  # short: a socket's path ends at 107 bytes
    log = root / "log"
    (root / "config.yaml").write_text(_CONFIG)
    async with KubeletStub(root / "k") as stub:
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: ASYNC220, S603  # it returns at once; ours
                _command(host_root, root), stderr=file, stdout=file, env=environment()
            )
        node = Running(stub=stub, process=process, log=log)
        try:
            yield node
        finally:
            await node.end()
    shutil.rmtree(root, ignore_errors=True)


def _command(host_root: Path, root: Path) -> Sequence[str]:
    return (
        *(sys.executable, "-m", "deviceplugin", "run"),
        *("--host-root", str(host_root), "--kubelet-dir", str(root / "k")),
        *("--cdi-dir", str(root / "cdi"), "--state-dir", str(root / "state")),
        *("--metrics-address", "127.0.0.1:0", "--log-format", "json"),
        *("--config", str(root / "config.yaml")),
    )


def environment() -> dict[str, str]:
    """Ours without any setting of the daemon's own."""
    return {k: v for k, v in os.environ.items() if not k.startswith("DEVICEPLUGIN_")}


def _documents(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
