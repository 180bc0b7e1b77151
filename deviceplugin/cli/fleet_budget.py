"""The commands `fleet budget` and `fleet targets`."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deviceplugin.cli.fleet_cost import biller_of, read_costs
from deviceplugin.cli.fleet_source import DAYS, past_options, read_past
from deviceplugin.cli.frame import NAMED, format_option, parse_format
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deviceplugin.advice.targets import Entry

FORMS = (*NAMED, "prometheus")
MAX_BYTES = 16 << 20


@click.command(
    "budget",
    help="""Show the budgets of `cost.budgets` in the month in which the history ends: what was
    spent, what the month is expected to come to, and how often such a forecast missed. Ends with
    status 1 where a budget is over, has reached an alert or is expected to be over.
    """,
    short_help="Show budgets, and what the month is expected to come to.",
)
@past_options
@DAYS
@format_option(FORMS)
def budget(form: str | None, **flags: Any) -> None:
    from deviceplugin.cost import budget as budgets  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cost.budget_report import budget_metrics, budget_text  # noqa: PLC0415

    form = parse_format(form, FORMS)
    section = read_costs(flags["costs"])
    with progress("making the bill and its forecast"):
        bill = biller_of(section).bill(read_past(flags, section))
        document = budgets.budget_document(bill, section)
    if form == "prometheus":
        click.echo(budget_metrics(document), nl=False)
    else:
        click.echo(rendered(document, form, budget_text, "budgets"), nl=False)
    if budgets.needs_attention(document):
        sys.exit(1)


@click.command(
    "targets",
    help="""Show the targets of `cost_optimization` and what the bill says of them since changes
    were applied. --record notes what `fleet advice --format json` recommended, --applied that a
    person has done it; both are lines of the ledger.
    """,
    short_help="Show targets, and what was recommended, applied and measured.",
)
@past_options
@DAYS
@click.option("--ledger", metavar="FILE", required=True, help="The ledger; made where it is not.")
@click.option("--record", metavar="FILE", help="Note the advice of this file as recommended.")
@click.option("--applied", metavar="ID", help="Note that this advice has been applied.")
@click.option("--at", metavar="TIME", help="When; by default now. As 2026-03-01T00:00:00Z.")
@format_option()
def targets(
    form: str | None, record: str | None, applied: str | None, at: str | None, **flags: Any
) -> None:
    from deviceplugin.advice.report import targets_text  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.advice.targets import targets_document  # noqa: PLC0415

    form = parse_format(form)
    path, wanted = Path(flags["ledger"]), _wanted(flags["costs"])
    _note(path, _new(record, applied, _ledger(path), _moment(at)))
    section = read_costs(flags["costs"])
    with progress("making the bill"):
        bill = biller_of(section).bill(read_past(flags, section))
    document = targets_document(bill, wanted, _ledger(path))
    click.echo(rendered(document, form, targets_text), nl=False)


def _wanted(costs: str) -> "Sequence[str]":
    """The targets of the section `cost_optimization`; raises ConfigError."""
    from deviceplugin.advice.targets import parse_target  # noqa: PLC0415
    from deviceplugin.config.files import read_config_files  # noqa: PLC0415
    from deviceplugin.config.schema import decode  # noqa: PLC0415
    from deviceplugin.documents.operations import CostOptimization  # noqa: PLC0415

    raw = read_config_files(Path(costs)).raw.get("cost_optimization") or {}
    section: CostOptimization = decode(raw, CostOptimization, "cost_optimization")
    for number, text in enumerate(section.targets if section.enabled else ()):
        try:
            parse_target(text)
        except ValueError as error:
            key = f"cost_optimization.targets[{number}]"
            raise ConfigError(key, text, "a target such as 'cost_reduction: 30%'") from error
    return section.targets if section.enabled else ()


def _ledger(path: Path) -> "Sequence[Entry]":
    """The lines of the ledger, none where there is no file; raises ConfigError."""
    from deviceplugin.advice.targets import Entry  # noqa: PLC0415
    from deviceplugin.config.schema import decode  # noqa: PLC0415

    if not path.exists():
        return ()
    found: list[Entry] = []
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError("--ledger", str(path), f"a file of at most {MAX_BYTES} bytes")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found.append(decode(json.loads(line), Entry, f"{path}, line {number}"))
    except (OSError, ValueError) as error:
        text = "a ledger that `fleet targets` wrote"
        raise ConfigError("--ledger", str(path), text, reason=f"{text} ({error})") from error
    return found


def _new(
    record: str | None, applied: str | None, ledger: "Sequence[Entry]", at: float
) -> "Sequence[dict[str, Any]]":
    """The lines that are asked for; raises ConfigError."""
    from deviceplugin.advice.targets import recommended  # noqa: PLC0415

    lines: list[dict[str, Any]] = []
    if record is not None:
        try:
            document = json.loads(Path(record).read_text(encoding="utf-8"))
            lines += map(dict, recommended(document, at))
        except (OSError, ValueError, TypeError, KeyError) as error:
            text = "what `fleet advice --format json` wrote"
            raise ConfigError("--record", record, text, reason=f"{text} ({error})") from error
    if applied is not None:
        known = {entry.id for entry in ledger} | {line["id"] for line in lines}
        if applied not in known:
            raise ConfigError("--applied", applied, f"one that is recorded: {', '.join(known)}")
        lines.append({"event": "applied", "id": applied, "at": at})
    return lines


def _moment(text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError("--at", text, "a time such as 2026-03-01T00:00:00Z") from error
    if moment.tzinfo is None:
        raise ConfigError("--at", text, "a time with its offset: 2026-03-01T00:00:00Z")
    return moment.timestamp()


def _note(path: Path, lines: "Sequence[dict[str, Any]]") -> None:
    if not lines:
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in lines)
    except OSError as error:
        raise ConfigError("--ledger", str(path), "a file to write", reason=str(error)) from error


BUDGET: tuple[click.Command, ...] = (budget, targets)
