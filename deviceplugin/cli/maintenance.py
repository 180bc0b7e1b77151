"""The commands `maintenance`: how good predictions of failures were."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deviceplugin.cli.frame import format_option, parse_format, parse_number
from deviceplugin.cli.output import rendered
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deviceplugin.maintenance.backtest import Plan, Quality
    from deviceplugin.maintenance.units import Unit

MAX_FLEET_BYTES = 256 << 20
MOST_DAYS = 3650
_BEFORE = 6  # windows that are learned before the first is tested


@click.group(
    "maintenance",
    help="Failures of GPUs: how well they could have been foreseen.",
    short_help="How well failures of GPUs can be foreseen.",
)
def maintenance_commands() -> None:
    """Its commands read files."""


@maintenance_commands.command(
    help="Predict the failures of a fleet again at each moment of its past, by what was known then,"
    " and hold the predictions against what came. Without --fleet the fleet is drawn by the"
    " published figures of one that was observed.",
    short_help="Hold predictions of failures against what came.",
)
@click.option(
    "--fleet",
    metavar="FILE",
    help="Your GPUs as CSV: gpu,cohort,traits,installed,removed,failure.",
)
@click.option("--seed", metavar="NUMBER", default="1", help="Of the drawn fleet. Default 1.")
@click.option("--days", metavar="NUMBER", default="91", help="Of a window. Default 91.")
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
    if not 1 <= numbers["days"] <= MOST_DAYS:
        raise ConfigError("--days", flags["days"], f"a number from 1 to {MOST_DAYS}")
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


def _of_file(name: str, numbers: "Mapping[str, int]") -> "Mapping[str, Quality]":
    from deviceplugin.maintenance.units import read_units  # noqa: PLC0415  # as above

    units = read_units(_text(name), name)
    first = min(unit.installed for unit in units)
    last = max(unit.removed or unit.installed for unit in units)
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
