"""Writing what was seen on a machine as a fixture: a directory of texts without identities."""

import contextlib
import errno
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.diagnose.redact import Redactor, identities
from deviceplugin.testing.hardware.replay import replay_problems
from deviceplugin.testing.hardware.verdict import Check, differ, judged

FORMAT = 1
Document = Mapping[str, Any]  # JSON


class Seen(Struct, frozen=True, kw_only=True):
    """All that a capture keeps.

    `records` are those of `record` by vendor, `discover` the document of that command, `answers`
    what each resource's containers were given, `outputs` texts of the vendors' tools by file name.
    """

    records: Mapping[str, Document]
    discover: Document
    answers: Document
    outputs: Mapping[str, str]
    checks: tuple[Check, ...]


def write_capture(directory: Path, seen: Seen, host_root: Path) -> Redactor:
    """Write the files into `directory`; what was redacted is in `capture.json` and in the result.

    Raises OSError where it cannot be written.
    """
    texts = dict(_texts(seen))
    names = _host_names(host_root, seen.discover)
    redactor = Redactor(_machine_id(host_root) or identities(texts.values()), names)
    redactor.learn(texts.values())
    # Its place tells a host name, however short.
    texts["discover.json"] = _json(
        {**seen.discover, "node": redactor.host_name(seen.discover["node"])}
    )
    redacted = {name: redactor.text(text) for name, text in texts.items()}
    about = {
        "format": FORMAT,
        "vendors": sorted(seen.records),
        "redacted": dict(sorted(redactor.counts.items())),
    }
    _make_empty(directory)
    for name, text in {**redacted, "capture.json": _json(about)}.items():
        (directory / name).write_text(text, encoding="utf-8")
    return redactor


def _make_empty(directory: Path) -> None:
    """A directory for a capture: a new one, or that of an earlier one without its files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = list(directory.iterdir())
    if files and not (directory / "capture.json").exists():
        raise FileExistsError(errno.EEXIST, "it has files and is no capture", str(directory))
    for file in files:
        file.unlink()


def replay_check(directory: Path) -> Check:
    """Whether the capture gives back what was found, here and now."""
    problems = replay_problems(directory)
    return judged("capture", problems[:20], f"{directory} gives the same devices again")


def capture_name(discover: Document) -> str:
    """A directory's name from the products and the drivers: `nvidia-h200-x8-570.124.06`."""
    whole = [d for d in discover["devices"] if d["parent"] is None]
    counts: dict[str, int] = {}
    for device in whole:
        product = device["product"] or f"{device['vendor']} gpu"
        counts[product] = counts.get(product, 0) + 1
    parts = [f"{product}-x{count}" for product, count in sorted(counts.items())]
    parts += sorted({v["driver_version"] for v in discover["vendors"] if v["driver_version"]})
    return re.sub(r"[^a-z0-9._]+", "-", "-".join(parts).lower()).strip("-.")[:80] or "capture"


def without_capture(reason: str) -> Check:
    """The check of a capture that could not be made."""
    return differ("capture", reason)


def _texts(seen: Seen) -> Iterable[tuple[str, str]]:
    """Every file's text, by name."""
    for vendor, record in seen.records.items():
        yield f"{vendor}.tree", record["tree"]
        yield f"{vendor}.json", _json({k: v for k, v in record.items() if k != "tree"})
    yield "discover.json", _json(seen.discover)
    yield "kubelet.json", _json(seen.answers)
    checks = [{"check": c.name, "verdict": c.verdict, "details": c.details} for c in seen.checks]
    yield "checks.json", _json(checks)
    for name, text in seen.outputs.items():
        yield name, _without_processes(text)


def _without_processes(text: str) -> str:
    """Names of programs say what people do on the machine."""
    return re.sub(r"(?s)<((?:accounted_)?processes)>.*?</\1>", r"<\1></\1>", text)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _machine_id(host_root: Path) -> str:
    try:
        return (host_root / "etc/machine-id").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _host_names(host_root: Path, discover: Document) -> tuple[str, ...]:
    names = {socket.gethostname(), socket.getfqdn(), str(discover["node"])}
    names.add(os.environ.get("NODE_NAME", ""))
    with contextlib.suppress(OSError, UnicodeDecodeError):
        names.add((host_root / "etc/hostname").read_text(encoding="utf-8").strip())
    return tuple(sorted(names | {name.partition(".")[0] for name in names}))
