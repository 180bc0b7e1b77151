"""The commands `maintenance`: what may fail, and how good such predictions were."""

import sys
from pathlib import Path
from typing import Any

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
from deviceplugin.runtime.control import ControlError

_fleet_option = click.option(
    "--fleet",
    metavar="FILE",
    help="Your GPUs as CSV: gpu,cohort,traits,installed,removed,failure.",
)
_signs_option = click.option(
    "--signs",
    metavar="FILE",
    help="What was noted before failures, as CSV: gpu,day,sign (maintenance signs prints it).",
)


@click.group(
    "maintenance",
    help="What is certain of this node's GPUs, what may fail, and how well failures could have been"
    " foreseen.",
    short_help="What may fail, and how well failures can be foreseen.",
)
def maintenance_commands() -> None:
    """The daemon runs `show` in a process of its own."""


@maintenance_commands.command(
    help="Show which of this node's GPUs have a finding that only a replacement ends, how probable"
    " a failure of each is, what precedes one, and when work on the node costs least. A daemon with"
    " the section predictive_maintenance tells what it found last; otherwise, and with --fleet,"
    " --signs or --days, it is computed now. Ends with status 1 where something is certain.",
    short_help="Show what is certain of this node's GPUs, and what may fail.",
)
@settings_options(("state_dir",))
@_fleet_option
@_signs_option
@click.option("--days", metavar="NUMBER", help="Of a window. Default 91.")
@format_option(NAMED)
def show(form: str | None, state_dir: str | None, days: str | None, **files: str | None) -> None:
    from deviceplugin.cli import failures  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.ask import ask  # noqa: PLC0415
    from deviceplugin.maintenance.report import maintenance_text  # noqa: PLC0415

    form = parse_format(form, NAMED)
    if files["signs"] and not files["fleet"]:
        raise ConfigError("--signs", files["signs"], "--fleet beside it, which says who failed")
    document = None if days or files["fleet"] else _daemons(state_dir)
    if document is None:
        number = failures.days_of(days or failures.DEFAULT_DAYS)
        health = ask(state_dir, {"operation": "health"})
        with progress("learning from the fleet's failures"):
            document = failures.node_document(health, state_dir, files, number)
    click.echo(rendered(document, form, maintenance_text, "gpus"), nl=False)
    if any(one["certain"] for one in document["gpus"]):
        sys.exit(1)


def _daemons(state_dir: str | None) -> "dict[str, Any] | None":
    """What the daemon found last, None where it has looked for nothing."""
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # not a part of `run`

    try:
        found = ask(state_dir, {"operation": "maintenance"})["document"]
    except (ControlError, KeyError):
        return None
    return dict(found) if found else None


@maintenance_commands.command(
    help="Print what was noted of this node's GPUs before they may have failed, by day, as CSV: the"
    " lines of many nodes, over years, are what --signs reads. It is read from the daemon's history"
    " (telemetry.history).",
    short_help="Print what precedes failures on this node, by day.",
)
@settings_options(("state_dir",))
def signs(state_dir: str | None) -> None:
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.failures import signs_lines  # noqa: PLC0415

    health = ask(state_dir, {"operation": "health"})
    click.echo("\n".join(signs_lines(health, state_dir)))


@maintenance_commands.command(
    help="Predict the failures of a fleet again at each moment of its past, by what was known then,"
    " and hold the predictions against what came. Without --fleet the fleet is drawn by the"
    " published figures of one that was observed.",
    short_help="Hold predictions of failures against what came.",
)
@_fleet_option
@_signs_option
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
def backtest(form: str | None, plot: str | None, **flags: str | None) -> None:
    from deviceplugin.cli import failures  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.maintenance import report  # noqa: PLC0415

    form = parse_format(form)
    fleet, noted = flags.pop("fleet"), flags.pop("signs")
    numbers = {
        name: parse_number(text or "", f"--{name.replace('_', '-')}")
        for name, text in flags.items()
    }
    numbers["days"] = failures.days_of(flags["days"] or "")
    if noted and not fleet:
        raise ConfigError("--signs", noted, "--fleet beside it, which says who failed")
    with progress("predicting the failures of the past"):
        found = failures.of_file(fleet, noted, numbers) if fleet else failures.drawn(numbers)
    document = report.document_of(found)
    if plot:
        try:
            Path(plot).write_text(report.plot(document), encoding="utf-8")
        except OSError as error:
            raise ConfigError("--plot", plot, "a file to write", reason=str(error)) from error
    click.echo(rendered(document, form, report.backtest_text), nl=False)
