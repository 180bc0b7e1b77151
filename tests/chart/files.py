"""The chart's copy of the manifests, since Helm reads nothing outside of it: `make chart-files`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "charts/deviceplugin"
COPIED = (
    *("daemonset.yaml", "config.yaml", "podmonitor.yaml"),
    *("components", "patches", "scheduler", "monitoring", "fleet"),
)


def sources() -> Iterator[tuple[Path, Path]]:
    """Each file with the place of its copy."""
    for name in COPIED:
        path = DEPLOY / name
        files = path.rglob("*") if path.is_dir() else (path,)
        for file in sorted(files):
            if file.is_file():
                yield file, CHART / "files" / file.relative_to(DEPLOY)


def main() -> None:
    """Make the copy anew."""
    shutil.rmtree(CHART / "files", ignore_errors=True)
    for file, copy in sources():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())


if __name__ == "__main__":
    main()
