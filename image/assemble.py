"""Copies what the daemon's image needs, and nothing else, to a folder that becomes the image.

Runs at the build, with the base image's own Python: `python assemble.py TARGET PATH...`. What is
taken beside the paths: this Python without what needs a person or a compiler, the libraries that
its programs ask for, and those that a driver's library asks for when it is loaded.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# Parts of the standard library that nothing here imports: tests, editors, windows, full screens of
# a terminal, databases of other kinds, compilers, pip.
NOT_NEEDED = (
    *("__pycache__", "site-packages", "test", "tests", "_ctypes_test*", "_test*", "xxlimited*"),
    *("idlelib", "pydoc_data", "tkinter", "_tkinter*", "turtle.py", "turtledemo"),
    *("curses", "_curses*", "readline*", "dbm", "_dbm*", "_gdbm*", "nis*"),
    *("config-*", "ensurepip", "lib2to3", "venv", "*.a"),
)
# A driver's library is found at run time and asks for more of these than our own programs do.
DRIVERS_ASK_FOR = ("libc6", "libgcc-s1", "libstdc++6")
KEPT = (
    "/etc/debian_version",  # NVIDIA's runtime puts libraries where Debian looks, if this is here
    "/etc/group",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/ssl",
    "/sbin/ldconfig",
    "/usr/lib/ssl",
    "/usr/share/zoneinfo",
)
FOLDERS = {"dev": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777}
ELF = b"\x7fELF"


class Assembly:
    """A folder that gets files of `source`, under the same paths and by the same links."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self._target = source, target

    def add(self, path: str, without: Iterable[str] = ()) -> None:
        """Copies a file or folder, and each link on the way; what is not there is left out."""
        here = self._followed(path)
        source = self._source / here
        if source.is_dir():
            ignored = shutil.ignore_patterns(*without)
            shutil.copytree(
                source, self._target / here, symlinks=True, ignore=ignored, dirs_exist_ok=True
            )
        elif source.is_file():
            self._below(here)
            shutil.copy2(source, self._target / here)

    def programs(self) -> Iterator[str]:
        """What is here and may ask for libraries: files that begin as programs do."""
        for path in sorted(self._target.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if file.read(4) == ELF:
                        yield "/" + str(path.relative_to(self._target))

    def finish(self) -> None:
        for name, mode in FOLDERS.items():
            (self._target / name).mkdir(exist_ok=True)
            (self._target / name).chmod(mode)

    def _followed(self, path: str) -> str:
        """The path with its links followed below `source`; the links are copied."""
        done, left = "", path.strip("/").split("/")
        while left:
            here = os.path.join(done, left.pop(0))
            if not (self._source / here).is_symlink():
                done = os.path.normpath(here)
                continue
            to = os.readlink(self._source / here)
            self._link(here, to)
            left = [*to.strip("/").split("/"), *left]
            done = "" if to.startswith("/") else done
        return done

    def _link(self, path: str, to: str) -> None:
        self._below(path)
        if not (self._target / path).is_symlink():
            (self._target / path).symlink_to(to)

    def _below(self, path: str) -> None:
        (self._target / path).parent.mkdir(parents=True, exist_ok=True)


def by_ldd(program: str) -> list[str]:
    """The libraries of a program and theirs, by the base's own loader."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607
    if "not found" in said:
        raise SystemExit(f"{program} needs a library that the base image does not have:\n{said}")
    return re.findall(r"(/\S+) \(0x", said)


def add_libraries(assembly: Assembly, needed: Callable[[str], Iterable[str]]) -> None:
    for library in sorted({name for program in assembly.programs() for name in needed(program)}):
        assembly.add(library)


class Packages:
    """What the base's package manager knows of its files."""

    def __init__(self, root: Path) -> None:
        self._known = root / "var/lib/dpkg"
        if not (self._known / "status").exists():
            raise SystemExit("the base image is not Debian's: build with --target=slim")
        self._files = {
            path.name.removesuffix(".list").split(":")[0]: path.read_text().split()
            for path in sorted((self._known / "info").glob("*.list"))
        }

    def libraries(self, name: str) -> list[str]:
        """None of its modules for other character sets, which lie one folder deeper."""
        pattern = re.compile(r"(/usr)?/lib(64)?(/[^/]*-linux-[^/]*)?/[^/]*\.so[.\d]*")
        return [path for path in self._files.get(name, ()) if pattern.fullmatch(path)]

    def of(self, paths: Iterable[str]) -> list[str]:
        """Whose files these are; `/lib` of a list may be `/usr/lib` of the base."""
        have = {path.removeprefix("/usr") for path in paths}
        return [
            name
            for name, files in self._files.items()
            if have & {path.removeprefix("/usr") for path in files if ".so" in path}
        ]

    def entries(self) -> dict[str, str]:
        entries = (self._known / "status").read_text().split("\n\n")
        return {entry.split("\n")[0].removeprefix("Package: "): entry + "\n" for entry in entries}


def add_packages(assembly: Assembly, packages: Packages, target: Path) -> None:
    """The licence of each package of which there is a library, and its entry, for scanners."""
    entries = packages.entries()
    for name in packages.of(assembly.programs()):
        assembly.add(f"/usr/share/doc/{name}/copyright")
        noted = target / "var/lib/dpkg/status.d" / name
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(entries[name])


def assemble(
    source: Path,
    target: Path,
    prefix: str,
    paths: Iterable[str],
    needed: Callable[[str], Iterable[str]] = by_ldd,
) -> None:
    """`target` gets the Python below `prefix` of `source`, the paths, and their libraries."""
    assembly, packages = Assembly(source, target), Packages(source)
    version = "{}.{}".format(*sys.version_info[:2])
    for name in ("python", "python3", f"python{version}"):
        assembly.add(f"{prefix}/bin/{name}")
    assembly.add(f"{prefix}/lib/python{version}", without=NOT_NEEDED)
    for path in (*paths, *KEPT):
        assembly.add(path)
    for name in DRIVERS_ASK_FOR:
        for path in packages.libraries(name):
            assembly.add(path)
    add_libraries(assembly, needed)
    add_packages(assembly, packages, target)
    assembly.finish()


if __name__ == "__main__":
    assemble(Path("/"), Path(sys.argv[1]), sys.base_prefix, sys.argv[2:])
