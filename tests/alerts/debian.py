"""Programs of Debian that tests use: found, or installed where CI runs as root; else the test is
skipped with the reason."""

import os
import shutil
import subprocess

import pytest

LIMIT_S = 600.0


def program(name: str, package: str) -> str:
    """Where it is."""
    if (found := shutil.which(name)) is not None:
        return found
    if os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-y", "-q"]
        install += ["--no-install-recommends", "install", package]
        for command in ([*install[:1], "update", "-q"], install):
            subprocess.run(command, check=False, timeout=LIMIT_S)
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip(f"{name} is not here: apt-get install {package}")
