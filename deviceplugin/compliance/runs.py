"""The process that writes reports, and the files that it leaves."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from deviceplugin.compliance.section import Wanted
from deviceplugin.errors import DevicePluginError

LIMIT_S = 1800.0  # a log of seven years is read in minutes
KEPT = 100  # of each standard
_SAID = 300
Found = Mapping[str, Sequence[str]]  # violations of each standard


class NotReportedError(DevicePluginError):
    """No report was written, and why."""


async def run(arguments: Sequence[str]) -> Found:
    """What the reports say; raises NotReportedError."""
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(
            *arguments, stdin=none, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        raise NotReportedError(str(error)) from error
    try:
        async with asyncio.timeout(LIMIT_S):
            out, said = await child.communicate()
    except TimeoutError as error:
        raise NotReportedError(f"it took more than {LIMIT_S:.0f} s") from error
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    try:
        answer = json.loads(out)
        return {name: tuple(one["violations"]) for name, one in answer.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = " ".join(said.decode(errors="replace").split())
        raise NotReportedError(
            text[-_SAID:] or f"it ended with status {child.returncode}"
        ) from error


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
