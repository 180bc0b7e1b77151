"""The wheel has the same bytes wherever and whenever it is built."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODES = "umask 022 && chmod -R u=rwX,go=rX . &&"  # a wheel keeps those of its files


def built(folder: Path, umask: int, mtime: int) -> tuple[str, str]:
    """Name and hash of the wheel of a copy of the sources, as another machine would have it."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "deviceplugin", folder / "deviceplugin", ignore=ignored)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (mtime, mtime))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", "dist", "."]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    line = ["/bin/sh", "-c", f"{MODES} {shlex.join(command)}"]
    subprocess.run(line, cwd=folder, env=environment, umask=umask, check=True)
    (wheel,) = (folder / "dist").iterdir()
    return wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.slow
def test_two_builds_of_the_same_sources_are_one_file(tmp_path: Path) -> None:
    one = built(tmp_path / "one", 0o022, 1_600_000_000)
    other = built(tmp_path / "other place", 0o077, 1_800_000_000)
    assert one == other


def test_a_release_is_built_with_the_same_modes_everywhere() -> None:
    for name in ("Makefile", "Dockerfile"):
        text = (ROOT / name).read_text().replace("\\\n", "")
        assert MODES in " ".join(text.split()), name
