"""A process of its own that speaks pynvml to one library: pynvml keeps its library in a global.

Started with the library's path; reads a line, runs it as Python with pynvml's names without their
prefix `nvml`, answers a line: `= value` or `! NVML code`.
"""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml


class Probe:
    """The test's side: `probe("DeviceGetCount()")`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, code: str) -> str:
        """What the code gave, as text: `2`, `'GPU-…'`, or `NVML 15`."""
        self.start(code)
        return self.answer()

    def start(self, code: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(code + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().rstrip("\n")


@contextmanager
def probing(library: Path) -> Iterator[Probe]:
    """A probe, initialised or not as the scenario has it; the process ends with the block."""
    command = [sys.executable, __file__, str(library)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        try:
            yield Probe(process)
        finally:
            process.kill()


def _names() -> dict[str, Any]:
    names = {name: getattr(pynvml, name) for name in dir(pynvml) if not name.startswith("__")}
    short = {name.removeprefix("nvml"): names[name] for name in names if name.startswith("nvml")}
    return names | short | {"ctypes": ctypes}


def _answer(code: str, names: dict[str, Any]) -> str:
    try:
        try:
            return repr(eval(code, names))  # noqa: S307 - the test's own words
        except SyntaxError:
            exec(code, names)  # noqa: S102
            return "None"
    except pynvml.NVMLError as error:
        return f"NVML {error.value}"


def main() -> None:
    pynvml.nvmlLib = ctypes.CDLL(sys.argv[1])
    names = _names()
    for line in sys.stdin:
        print(_answer(line.strip(), names), flush=True)


if __name__ == "__main__":
    main()
