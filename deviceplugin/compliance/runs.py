"""The process that writes reports, and the files that it leaves."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from deviceplugin.compliance.section import Wanted
from deviceplugin.errors import DevicePluginError
from deviceplugin.runtime.commands import printed

LIMIT_S = 1800.0  # a log of seven years is read in minutes
KEPT = 100  # of each standard
_SAID = 300
Found = Mapping[str, Sequence[str]]  # violations of each standard


class NotReportedError(DevicePluginError):
    """No report was written, and why."""


async def run(arguments: Sequence[str]) -> Found:
    """What the reports say; raises NotReportedError."""
    try:
        done = await printed(arguments, LIMIT_S)
    except (OSError, DevicePluginError) as error:
        raise NotReportedError(str(error)) from error
    try:
        answer = json.loads(done.text)
        return {name: tuple(one["violations"]) for name, one in answer.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = done.said[-_SAID:] or f"it ended with status {done.status}"
        raise NotReportedError(text) from error


def due_in_s(directory: Path, asked: Wanted, now: float) -> float:
    """When the next report is due: 0 where one is missing, old, or of the future."""
    newest = [_newest(directory, standard) for standard in asked.standards]
    ages = [now - path.stat().st_mtime if path else asked.interval_s for path in newest]
    if any(age < 0 or age >= asked.interval_s for age in ages):
        return 0.0
    return asked.interval_s - max(ages)


def recalled(directory: Path, asked: Wanted) -> Found:
    """What the newest reports say; one that cannot be read says nothing."""
    found = {}
    for standard in asked.standards:
        path = _newest(directory, standard)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(path.read_bytes()) if path else {}
            found[standard] = tuple(str(one["text"]) for one in document["violations"])
    return found


def expire(directory: Path) -> None:
    """Remove all but the newest of each standard; a name has its time."""
    for suffix in ("json", "html", "pdf"):
        by_standard: dict[str, list[Path]] = {}
        for path in sorted(directory.glob(f"*-*.{suffix}")):
            by_standard.setdefault(path.name.partition("-")[0], []).append(path)
        for paths in by_standard.values():
            for path in paths[:-KEPT]:
                path.unlink(missing_ok=True)


def _newest(directory: Path, standard: str) -> Path | None:
    return max(directory.glob(f"{standard}-*.json"), default=None)
