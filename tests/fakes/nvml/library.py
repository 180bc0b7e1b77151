"""Compiles the C side once per source text and keeps the result in the temporary folder."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).parent
_FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra")
_NAME = "libnvidia-ml.so.1"


def build_library(target_dir: Path, name: str = _NAME) -> Path:
    """A copy of the library in `target_dir`. RuntimeError: no C compiler, or it failed."""
    target_dir.mkdir(parents=True, exist_ok=True)
    aside = target_dir / f".{name}.new"  # writing over a library in use would crash its user
    shutil.copyfile(_cached_library(), aside)
    return aside.rename(target_dir / name)


def _cached_library() -> Path:
    cache = Path(tempfile.gettempdir()) / f"nvml-double-{os.getuid()}-{_source_hash()}"
    if not cache.exists():
        _compile_into(cache)
    if cache.stat().st_uid != os.getuid():
        raise RuntimeError(f"{cache} belongs to another user")
    return cache / _NAME


def _source_hash() -> str:
    digest = hashlib.sha256(repr(_FLAGS).encode())
    for path in sorted(_SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _compile_into(cache: Path) -> None:
    """Built aside and renamed: of two builders at once one wins, and both have the same bytes."""
    aside = Path(tempfile.mkdtemp(prefix="nvml-double-", dir=cache.parent))
    try:
        sources = [str(path) for path in sorted(_SOURCES.glob("*.c"))]
        command = [*compiler(), *_FLAGS, *sources, "-o", str(aside / _NAME), "-ldl", "-lpthread"]
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
    raise RuntimeError("the NVML double needs a C compiler: put cc on PATH or install ziglang")
