"""The compiled C side."""

import shutil
from pathlib import Path

from tests.fakes.compiled import compiled

_NAME = "libnvidia-ml.so.1"


def build_library(target_dir: Path, name: str = _NAME) -> Path:
    """A copy of the library in `target_dir`. RuntimeError: no C compiler, or it failed."""
    target_dir.mkdir(parents=True, exist_ok=True)
    aside = target_dir / f".{name}.new"  # writing over a library in use would crash its user
    shutil.copyfile(compiled(Path(__file__).parent, _NAME), aside)
    return aside.rename(target_dir / name)
