"""The commands `maintenance`: what may fail, and how good such predictions were."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deviceplugin.cli.frame import (
    NAMED,
    format_option,
    parse_format,
    parse_number,
    settings_options,
)
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deviceplugin.maintenance.backtest import Plan, Quality
    from deviceplugin.maintenance.findings import Past
    from deviceplugin.maintenance.units import Unit

MAX_FLEET_BYTES = 256 << 20
MOST_DAYS = 3650
_BEFORE = 6  # windows that are learned before the first is tested
_ENOUGH = 0.8  # of the tested windows calibrated: ten of twelve
_fleet_option = click.option(
    "--fleet",
    metavar="FILE",
    help="Your GPUs as CSV: gpu,cohort,traits,installed,removed,failure.",
)
_days_option = click.option(
    "--days", metavar="NUMBER", default="91", help="Of a window. Default 91."
)


@click.group(
    "maintenance",
    help="What is certain of this node's GPUs, what may fail, and how well failures could have been"
    " foreseen.",
    short_help="What may fail, and how well failures can be foreseen.",
)
def maintenance_commands() -> None:
    """Nothing of it runs in the daemon."""


@maintenance_commands.command(
    help="Show which of this node's GPUs have a finding that only a replacement ends, as the"
    " running daemon knows them, and with --fleet how probable a failure of each is. Ends with"
    " status 1 where something is certain.",
    short_help="Show what is certain of this node's GPUs, and what may fail.",
)
@settings_options(("state_dir",))
@_fleet_option
@_days_option
@format_option(NAMED)
def show(form: str | None, state_dir: str | None, fleet: str | None, days: str) -> None:
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.maintenance.findings import maintenance_document  # noqa: PLC0415
    from deviceplugin.maintenance.report import maintenance_text  # noqa: PLC0415

    form = parse_format(form, NAMED)
    with progress("learning from the fleet's failures"):
        past = _past(fleet, _days(days)) if fleet else None
    document = maintenance_document(ask(state_dir, {"operation": "health"}), past)
    click.echo(rendered(document, form, maintenance_text, "gpus"), nl=False)
    if any(one["certain"] for one in document["gpus"]):
        sys.exit(1)


@maintenance_commands.command(
    help="Predict the failures of a fleet again at each moment of its past, by what was known then,"
    " and hold the predictions against what came. Without --fleet the fleet is drawn by the"
    " published figures of one that was observed.",
    short_help="Hold predictions of failures against what came.",
)
@_fleet_option
@click.option("--seed", metavar="NUMBER", default="1", help="Of the drawn fleet. Default 1.")
@_days_option
@click.option(
    "--failure-hours",
    metavar="NUMBER",
    default="24",
    help="Node-hours that a failure costs. Default 24.",
)
@click.option(
    "--drain-hours",
    metavar="NUMBER",
    default="1",
    help="Node-hours that a planned replacement costs. Default 1.",
)
@click.option("--plot", metavar="FILE", help="Also write a plot there, as SVG.")
@format_option()
def backtest(form: str | None, fleet: str | None, plot: str | None, **flags: str) -> None:
    from deviceplugin.maintenance import report  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form)
    numbers = {
        name: parse_number(text, f"--{name.replace('_', '-')}") for name, text in flags.items()
    }
    numbers["days"] = _days(flags["days"])
    with progress("predicting the failures of the past"):
        document = report.document_of(_of_file(fleet, numbers) if fleet else _drawn(numbers))
    if plot:
        try:
            Path(plot).write_text(report.plot(document), encoding="utf-8")
        except OSError as error:
            raise ConfigError("--plot", plot, "a file to write", reason=str(error)) from error
    click.echo(rendered(document, form, report.backtest_text), nl=False)


def _drawn(numbers: "Mapping[str, int]") -> "Mapping[str, Quality]":
    from functools import partial  # noqa: PLC0415  # as above

    from deviceplugin.maintenance.backtest import backtest as tested  # noqa: PLC0415
    from deviceplugin.simulate import fleet  # noqa: PLC0415

    drawn = fleet.Fleet(numbers["seed"])
    units = drawn.play()
    span = (0, fleet.QUARTERS * fleet.QUARTER_DAYS)
    plan = _plan(span, fleet.FIRST_TESTED * fleet.QUARTER_DAYS, numbers)
    if plan.window != fleet.QUARTER_DAYS:
        raise ConfigError("--days", numbers["days"], f"{fleet.QUARTER_DAYS} without --fleet")
    return _compared(units, plan) | {
        "ceiling": tested(units, plan, partial(fleet.ceiling, drawn)),
    }


def _days(text: str) -> int:
    days = parse_number(text, "--days")
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError("--days", text, f"a number from 1 to {MOST_DAYS}")
    return days


def _past(name: str, days: int) -> "Past":
    from deviceplugin.maintenance.findings import Past, outlooks_of  # noqa: PLC0415  # as above

    units = _units(name)
    first, last = span = _span(units)
    calibrated = None
    if first + (_BEFORE + 1) * days <= last:
        numbers = {"days": days, "failure_hours": 0, "drain_hours": 0}
        quality = _compared(units, _plan(span, first + _BEFORE * days, numbers))["learned"]
        calibrated = quality.calibrated_quarters >= _ENOUGH * len(quality.quarters)
    return Past(days=days, calibrated=calibrated, outlooks=outlooks_of(units, span, days))


def _units(name: str) -> "Sequence[Unit]":
    from deviceplugin.maintenance.units import read_units  # noqa: PLC0415  # as above

    return read_units(_text(name), name)


def _span(units: "Sequence[Unit]") -> tuple[int, int]:
    """From the first day that the file names to the last."""
    first = min(unit.installed for unit in units)
    return first, max(unit.removed or unit.installed for unit in units)


def _of_file(name: str, numbers: "Mapping[str, int]") -> "Mapping[str, Quality]":
    units = _units(name)
    first, last = _span(units)
    tested = first + _BEFORE * numbers["days"]
    if tested + numbers["days"] > last:
        text = f"at least {_BEFORE + 1} windows of {numbers['days']} days; fewer --days"
        raise ConfigError(name, f"{last - first} days", text)
    return _compared(units, _plan((first, last), tested, numbers))


def _plan(span: tuple[int, int], tested: int, numbers: "Mapping[str, int]") -> "Plan":
    from deviceplugin.maintenance.backtest import Plan  # noqa: PLC0415  # as above

    window = numbers["days"]
    return Plan(
        first=span[0],
        tested=tested,
        last=span[1] - window + 1,  # a window that is not over cannot be judged
        window=window,
        failure_hours=numbers["failure_hours"],
        drain_hours=numbers["drain_hours"],
    )


def _compared(units: "Sequence[Unit]", plan: "Plan") -> "dict[str, Quality]":
    from deviceplugin.maintenance import backtest as judged  # noqa: PLC0415  # as above

    return {
        "learned": judged.backtest(units, plan, judged.learned(units, plan)),
        "cohort": judged.backtest(units, plan, judged.cohort_baseline(units, plan)),
    }


def _text(name: str) -> str:
    expected = f"a CSV file of at most {MAX_FLEET_BYTES >> 20} MiB"
    try:
        path = Path(name)
        if path.stat().st_size > MAX_FLEET_BYTES:
            raise ConfigError("--fleet", name, expected)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--fleet", name, expected, reason=str(error)) from error
