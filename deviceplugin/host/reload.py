"""Loads a kernel module of the node again, by the node's own modprobe with its own settings; for
`deviceplugin provision` alone, where the operator allows it."""

import os
import subprocess
from collections.abc import Callable, Sequence
from threading import Thread

from deviceplugin.errors import VendorError
from deviceplugin.host.host import Host

UNLOAD_S, LOAD_S, LOOK_S = 120.0, 300.0, 20.0  # AMD's own tool waits up to 140 s for both
_FIRST = "/proc/1/ns/mnt"
_OURS = "/proc/self/ns/mnt"
# A program with its arguments, and for how long it may run; what it printed. Raises VendorError.
Run = Callable[[Sequence[str], float], str]


def run_program(command: Sequence[str], timeout_s: float) -> str:
    """One that does not end in time is left alone: nothing ends a process that waits for a
    driver."""
    name = " ".join(command)
    try:
        process = subprocess.Popen(  # noqa: S603  # commands of our own
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        Thread(target=process.communicate, daemon=True).start()  # whenever it ends
        raise VendorError(f"{name} has not ended after {timeout_s:.0f} s") from error
    except OSError as error:
        raise VendorError(f"{name}: {error.strerror}") from error
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise VendorError(f"{name} failed: {text or f'exit status {process.returncode}'}")
    return text


class Module:
    """A module by its name."""

    def __init__(self, host: Host, name: str, run: Run = run_program) -> None:
        self._host, self._name, self._run = host, name, run

    def check(self) -> None:
        """Raises VendorError where what would be loaded is not what is loaded now: a module that
        an operator keeps in a container image does not come back by modprobe."""
        self._do("modprobe", "--dry-run", self._name, seconds=LOOK_S)
        there = self._do("modinfo", "--field", "srcversion", self._name, seconds=LOOK_S)
        loaded = self._host.read_line(f"/sys/module/{self._name}/srcversion")
        if there and loaded and there != loaded:
            raise VendorError(
                f"the {self._name} that is loaded is not that of the node's /lib/modules: whoever"
                " loaded it would have to load it again"
            )

    def unload(self) -> None:
        """Take it out; raises VendorError, also where it is in use."""
        self._do("modprobe", "--remove", self._name, seconds=UNLOAD_S)

    def load(self) -> None:
        """Load it; loaded already is no error. Raises VendorError."""
        self._do("modprobe", self._name, seconds=LOAD_S)

    def _do(self, *command: str, seconds: float) -> str:
        return self._run([*self._inside(), *command], seconds)

    def _inside(self) -> Sequence[str]:
        """How a program sees the node's files: in a container by the node's first process."""
        first = self._host.read_link(_FIRST)
        if first is None:
            raise VendorError(
                f"{_FIRST} of the node is not seen: its processes are needed for that"
            )
        if first == os.readlink(_OURS):
            return ()
        return ("nsenter", f"--mount={self._host.path(_FIRST)}", "--")
