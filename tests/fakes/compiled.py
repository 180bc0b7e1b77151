"""Shared libraries made from C beside the tests, once per source text."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra")
_LIBRARIES = ("-ldl", "-lpthread")


def compiled(sources: Path, name: str) -> Path:
    """The library made of every C file in `sources`. RuntimeError: no C compiler, or it failed."""
    known = f"{sources.name}-double-{os.getuid()}-{_source_hash(sources)}"
    cache = Path(tempfile.gettempdir()) / known
    if not cache.exists():
        _compile_into(cache, sources, name)
    if cache.stat().st_uid != os.getuid():
        raise RuntimeError(f"{cache} belongs to another user")
    return cache / name


def _source_hash(sources: Path) -> str:
    digest = hashlib.sha256(repr(_FLAGS).encode())
    for path in sorted(sources.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _compile_into(cache: Path, sources: Path, name: str) -> None:
    """Built aside and renamed: of two builders at once one wins, and both have the same bytes."""
    aside = Path(tempfile.mkdtemp(prefix="double-", dir=cache.parent))
    try:
        files = [str(path) for path in sorted(sources.glob("*.c"))]
        command = [*compiler(), *_FLAGS, *files, "-o", str(aside / name), *_LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        try:
            aside.rename(cache)
        except OSError:
            if not cache.exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def compiler() -> list[str]:
    """`cc`, or the one in the package ziglang."""
    if found := shutil.which("cc"):
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError("the C doubles need a compiler: put cc on PATH or install ziglang")
