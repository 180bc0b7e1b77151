"""`deviceplugin audit`: whether the log is whole, and what is in it; it needs no daemon."""

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from deviceplugin.cli.frame import format_option, parse_format, parse_number, settings_options
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.config.last_good import state_dir_of
from deviceplugin.errors import ConfigError, DevicePluginError

F = TypeVar("F", bound=Callable[..., Any])
_ASKED = (
    ("--since", "TIME", "From this day or time on, as 2026-01-31 or 2026-01-31T12:00Z."),
    ("--until", "TIME", "Before this day or time."),
    ("--type", "NAME", "Of this type, or those below it, as allocation."),
    ("--pod", "[NAMESPACE/]NAME", "About this pod."),
    ("--device", "ID", "About this device, id or resource."),
)


def _asked_options(command: F) -> F:
    for flag, metavar, text in reversed(_ASKED):
        command = click.option(flag, metavar=metavar, default="", help=text)(command)
    return command


@click.group(
    "audit",
    help="Check, search and export the log of what was done with this node's devices (audit).",
    short_help="Check, search and export the audit log.",
)
def audit_commands() -> None:
    """Its commands read files."""


@audit_commands.command(
    help="Check that no record is edited or missing; of FILES that were exported or copied, whether"
    " they follow from each other.",
    short_help="Check that no record is edited or missing.",
)
@settings_options(("state_dir",))
@click.argument("files", nargs=-1, metavar="[FILES]...")
@click.option(
    "--anchor", metavar="HASH", default="", help="The hash of a record, as audit_sealed logged it."
)
@format_option()
def verify(state_dir: str | None, files: tuple[str, ...], anchor: str, form: str | None) -> None:
    from deviceplugin.audit.verify import verify_files, verify_log  # noqa: PLC0415  # not for `run`

    form = parse_format(form)
    try:
        paths = [Path(name) for name in files]
        with progress("following the log"):
            report = verify_files(paths, anchor) if files else verify_log(_log(state_dir), anchor)
    except OSError as error:
        raise _unreadable(error) from error
    document = {
        "whole": not report.problems,
        "records": report.records,
        "files": report.files,
        "lost": report.lost,
        "last": {"sequence": report.last.sequence, "hash": report.last.digest},
        "problems": report.problems,
        "notes": report.notes,
    }
    click.echo(rendered(document, form, _verdict), nl=False)
    if report.problems:
        sys.exit(1)


def _verdict(document: dict[str, Any]) -> str:
    lines = [f"problem: {text}" for text in document["problems"]]
    lines += [f"note: {text}" for text in document["notes"]]
    if document["lost"]:
        lines.append(f"note: the log says itself that {document['lost']} records were lost")
    state = "whole" if document["whole"] else "NOT WHOLE"
    lines.append(f"{state}: {document['records']} records in {document['files']} files")
    return "\n".join([*lines, f"last: {document['last']['hash']}"]) + "\n"


@audit_commands.command(help="Show records.")
@settings_options(("state_dir",))
@_asked_options
@click.option("--limit", metavar="NUMBER", default="1000", help="At most so many. Default 1000.")
@format_option()
def query(state_dir: str | None, limit: str, form: str | None, **asked: str) -> None:
    import msgspec  # noqa: PLC0415  # not a part of `run`

    form, most = parse_format(form), parse_number(limit, "--limit")
    try:
        found = [record for record, _ in islice(_records(state_dir, asked), most + 1)]
    except OSError as error:
        raise _unreadable(error) from error
    document = {"records": msgspec.to_builtins(found[:most]), "more": len(found) > most}
    click.echo(rendered(document, form, _table), nl=False)


def _table(document: dict[str, Any]) -> str:
    from deviceplugin.runtime.tables import table  # noqa: PLC0415  # not a part of `run`

    rows = [
        (one["time"], one["type"].removeprefix("deviceplugin."), one["subject"], _who(one["data"]))
        for one in document["records"]
    ]
    more = "there are more: --limit\n" if document["more"] else ""
    return table(("TIME", "TYPE", "SUBJECT", "WHAT"), rows) + "\n" + more


def _who(data: dict[str, Any]) -> str:
    """What tells most in a line; --format json has all."""
    pod = "/".join(str(data[key]) for key in ("namespace", "pod", "container") if data.get(key))
    ids = data.get("ids") or data.get("devices") or ()
    shown = ", ".join(map(str, ids[:4])) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
    found = (pod, shown, data.get("reason"), data.get("file"))
    return "; ".join(str(text) for text in found if text)


@audit_commands.command(
    help="Print records as they are in the log, one CloudEvent a line; without filters `verify`"
    " takes what was printed.",
    short_help="Print records as they are in the log.",
)
@settings_options(("state_dir",))
@_asked_options
def export(state_dir: str | None, **asked: str) -> None:
    try:
        for _, line in _records(state_dir, asked):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise _unreadable(error) from error


def _records(state_dir: str | None, asked: dict[str, str]) -> Any:  # pairs of record and line
    from deviceplugin.audit.query import Query, records_of  # noqa: PLC0415  # not for `run`

    asked_for = Query(
        since=_time(asked, "since"),
        until=_time(asked, "until"),
        kind=asked["type"].removeprefix("deviceplugin."),
        pod=asked["pod"],
        device=asked["device"],
    )
    return records_of(_log(state_dir), asked_for)


def _time(asked: dict[str, str], name: str) -> str:
    from deviceplugin.audit.query import parse_time  # noqa: PLC0415  # not a part of `run`

    if not asked[name]:
        return ""
    try:
        return parse_time(asked[name])
    except ValueError as error:
        text = "a day as 2026-01-31, or a time as 2026-01-31T12:00Z"
        raise ConfigError(f"--{name}", asked[name], text) from error


def _log(state_dir: str | None) -> Path:
    from deviceplugin.audit.segments import DIRECTORY  # noqa: PLC0415  # not a part of `run`

    path = state_dir_of({"state_dir": state_dir}) / DIRECTORY
    if not path.is_dir():
        raise DevicePluginError(f"{path}: there is no audit log (audit.enabled, --state-dir)")
    return path


def _unreadable(error: OSError) -> DevicePluginError:
    return DevicePluginError(f"{error.filename}: {error.strerror}")
