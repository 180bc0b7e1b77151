"""Builds each form of the image with buildah, and looks at what it is and does: `make image-test`.

Status 1 where something is not as it should be. Without buildah nothing can be looked at, which is
said and is no failure.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORMS = {"lean": [], "nonroot": ["--target", "nonroot"], "slim": ["--target", "slim"]}
USERS = {"lean": "0", "nonroot": "65532", "slim": "0"}
LEAN_MIB = 110  # 80 as of 0.1.0; a form that grows by a third has got something that it should not
MIB = 1024 * 1024
# All of ours can be imported but what needs an extra, and what was imported has bytecode.
LOOK = """
import importlib, pkgutil, sys, deviceplugin
from deviceplugin.errors import ConfigError
for one in pkgutil.walk_packages(deviceplugin.__path__, "deviceplugin."):
    if not one.name.endswith("__main__"):
        try:
            importlib.import_module(one.name)
        except ConfigError as error:
            assert "install deviceplugin[" in str(error), error
from pathlib import Path
files = {m.__cached__ for m in sys.modules.values() if getattr(m, "__cached__", None)}
missing = sorted(name for name in files if not Path(name).exists())
assert not missing, missing[:5]
"""


def buildah(*arguments: str) -> str:
    made = subprocess.run(
        ["buildah", *arguments],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise SystemExit(
            f"buildah {' '.join(arguments)[:200]}:\n{made.stdout}{made.stderr}"[-4000:]
        )
    return made.stdout.strip()


@contextmanager
def container(image: str) -> Iterator[str]:
    name = buildah("from", image)
    try:
        yield name
    finally:
        buildah("rm", name)


def size_mib(folder: Path) -> int:
    """Of its files, unpacked; what is linked twice is counted once."""
    found = {(one.st_ino, one.st_size) for path in folder.rglob("*") if (one := path.lstat())}
    return round(sum(size for _, size in found) / MIB)


def problems(form: str, name: str, root: Path) -> Iterator[str]:
    user = buildah("run", name, "python", "-c", "import os; print(os.getuid())")
    if user != USERS[form]:
        yield f"runs as user {user}, not {USERS[form]}"
    buildah("run", name, "python", "-c", LOOK)
    buildah("run", name, "deviceplugin", "check")
    if "Done:" not in buildah("run", "--user", "65534:65534", name, "deviceplugin", "demo"):
        yield "the demo does not come to its end"
    if form == "slim":
        return
    if size_mib(root) > LEAN_MIB:
        yield f"has {size_mib(root)} MiB, more than {LEAN_MIB}"
    for tool in ("sh", "bash", "apt", "pip", "dpkg"):
        if any((root / folder / tool).exists() for folder in ("bin", "usr/bin", "usr/local/bin")):
            yield f"has {tool}"
    if not list((root / "var/lib/dpkg/status.d").glob("libc6")):
        yield "has no list of its packages"


def looked_at(form: str, image: str) -> list[str]:
    with container(image) as name:
        root = Path(buildah("mount", name))
        begun = time.monotonic()
        buildah("run", name, "deviceplugin", "--version")
        took = time.monotonic() - begun
        found = list(problems(form, name, root))
        state = "; ".join(found) or "as it should be"
        print(f"{form:8} {size_mib(root):4} MiB unpacked, first command {took:.1f} s: {state}")
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default="python:3.13-slim-bookworm")
    given, flags = parser.parse_known_args()
    if shutil.which("buildah") is None:
        print("NOT BUILT: buildah is not installed")
        return
    failed = False
    for form, target in FORMS.items():
        image = f"localhost/deviceplugin-test:{form}"
        how = ["--layers", "--build-arg", f"BASE_IMAGE={given.base}", *flags]
        buildah("bud", *how, *target, "--tag", image, ".")
        failed |= bool(looked_at(form, image))
    sys.exit(failed)


if __name__ == "__main__":
    main()
