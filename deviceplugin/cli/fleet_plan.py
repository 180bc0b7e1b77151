"""The commands `fleet plan`, `fleet report`, `fleet serve` and `fleet rules`."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deviceplugin.cli.fleet_advice import priced
from deviceplugin.cli.fleet_source import STORE, days_of, options, store_of
from deviceplugin.cli.frame import NAMED, format_option, parse_format, parse_number
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.config.config import Setting, parse_address
from deviceplugin.errors import ConfigError
from deviceplugin.runtime.logs import configure_logs

if TYPE_CHECKING:
    from deviceplugin.fleet.plan import Asked, WhatIf

F = TypeVar("F", bound=Callable[..., Any])
ADDRESS = "127.0.0.1:8891"
REPORTS = (*NAMED, "html")
DAYS = "60"
MONTH_DAYS = 30  # of costs, advice and signs of failures
_OPTIONS = (
    *STORE,
    click.option(
        "--days", metavar="NUMBER", default=DAYS, help=f"Days of history to read. Default {DAYS}."
    ),
    click.option(
        "--config", metavar="PATH", help="A configuration with the section `resource_planning`."
    ),
    click.option("--add", multiple=True, metavar="NxMODEL", help="Assume more GPUs: 2xH100."),
    click.option("--remove", multiple=True, metavar="NODE", help="Assume that a node is away."),
    click.option(
        "--growth",
        metavar="PERCENT",
        default="0",
        help="Assume that demand grows so much in 30 days beyond the forecast.",
    ),
)

_COSTS = click.option(
    "--costs", metavar="FILE", help="Show costs, budgets and savings by the prices of this file."
)


def _options(command: F) -> F:
    return options(command, _OPTIONS)


@click.command(
    "plan",
    help="""Show what is expected of GPUs, memory, network and storage for the next 30 days, with
    bands, when they are used up, and how good such forecasts were on the fleet's own history.
    """,
    short_help="Show what is expected of a fleet, and when it is full.",
)
@_options
@format_option()
def plan(form: str | None, **flags: Any) -> None:
    from deviceplugin.fleet.plan_text import plan_text  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form)
    document = reported(flags)
    del document["places"]
    click.echo(rendered(document, form, plan_text), nl=False)


@click.command(
    "report",
    help="""Show each node of a fleet with its GPUs, and the plan; with `html` as one page that
    needs nothing else.
    """,
    short_help="Show a fleet's nodes and its plan, also as a page.",
)
@_options
@_COSTS
@format_option(REPORTS)
def report(form: str | None, **flags: Any) -> None:
    from deviceplugin.fleet.page import fleet_page  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.fleet.plan_text import report_text  # noqa: PLC0415

    form = parse_format(form, REPORTS)
    document = reported(flags)
    if form == "html":
        click.echo(fleet_page(document), nl=False)
    else:
        click.echo(rendered(document, form, report_text, _nodes), nl=False)


def _nodes(document: dict[str, Any]) -> list[str]:
    return sorted({place["node"] for place in document["places"]})


@click.command(
    "serve",
    help="""Serve the report as a page at / and as JSON at /report.json, until SIGTERM. It is made
    anew every --every minutes; while the store does not answer, the last one is served. /metrics
    has when resources are full and what budgets come to.
    """,
    short_help="Serve a fleet's report as a page.",
)
@_options
@_COSTS
@click.option("--address", metavar="HOST:PORT", default=ADDRESS, help=f"Default {ADDRESS}.")
@click.option("--every", metavar="MINUTES", default="60", help="Default 60.")
def serve(address: str, every: str, **flags: Any) -> None:
    from deviceplugin.fleet.serve import Served, serve_reports  # noqa: PLC0415  # as above

    minutes = parse_number(every, "--every")
    if minutes < 1:
        raise ConfigError("--every", every, "minutes from 1")
    place = parse_address(Setting(address, "--address"))
    if place is None:
        raise ConfigError("--address", address, "an address such as 127.0.0.1:8891")
    configure_logs("info", "json")
    serve_reports(Served(partial(reported, flags)), place, minutes * 60.0)


@click.command(
    "rules",
    help="""Print the recording rules that keep what `fleet` asks for, for Prometheus. With them a
    store answers at once; without them it computes every hour again. Alerts about budgets and the
    capacity follow, of what `fleet serve` has at /metrics.
    """,
    short_help="Print recording and alerting rules for a fleet.",
)
@format_option(("yaml", "json"))
def rules(form: str | None) -> None:
    from deviceplugin.fleet.questions import rules as recording  # noqa: PLC0415  # as above

    click.echo(rendered(recording(), parse_format(form, ("yaml", "json"))), nl=False)


def reported(flags: dict[str, Any]) -> dict[str, Any]:
    """The fleet as the store has it, the plan, and what it costs where prices are given; raises
    ConfigError and StoreError."""
    from deviceplugin.fleet.plan import report_document  # noqa: PLC0415
    from deviceplugin.fleet.reader import read_fleet, read_risk  # noqa: PLC0415

    asked, what_if, days = _asked(flags["config"]), _what_if(flags), days_of(flags["days"])
    store, now = store_of(flags), time.time()
    with progress(f"reading {days} days of the fleet") as told:
        fleet = read_fleet(store, now, days)
        told.what = "forecasting what the fleet needs"
        document = report_document(fleet, asked, what_if)
        if "costs" not in flags:
            return document
        document["health"] = read_risk(store, now, min(days, MONTH_DAYS))
        return document | (_priced(flags, min(days, MONTH_DAYS)) if flags["costs"] else {})


def _priced(flags: dict[str, Any], days: int) -> dict[str, Any]:
    """What it costs, or why that is not known: it takes nothing from the rest of a report."""
    from deviceplugin.metrics.reply import StoreError  # noqa: PLC0415

    try:
        return priced(flags, days)
    except StoreError as error:
        return {"cost_unknown": str(error)}


def _what_if(flags: dict[str, Any]) -> "WhatIf":
    from deviceplugin.fleet.plan import WhatIf  # noqa: PLC0415

    text = flags["growth"].strip().rstrip("%").strip()
    try:
        growth = float(text)
        valid = -100 <= growth <= 1000
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("--growth", flags["growth"], "percent from -100 to 1000 such as 10")
    return WhatIf(add=flags["add"], remove=flags["remove"], growth=growth / 100)


def _asked(config: str | None) -> "Asked":
    """What the section `resource_planning` asks for; raises ConfigError."""
    from deviceplugin.fleet.asked import asked_of  # noqa: PLC0415
    from deviceplugin.fleet.plan import Asked  # noqa: PLC0415

    if config is None:
        return Asked()
    from deviceplugin.config.documents import schemas_of  # noqa: PLC0415
    from deviceplugin.config.files import read_config_files  # noqa: PLC0415
    from deviceplugin.config.schema import decode_sections  # noqa: PLC0415

    raw = read_config_files(Path(config)).raw
    if "resource_planning" not in raw:
        raise ConfigError("--config", config, "a configuration with the section resource_planning")
    only = {"resource_planning": raw["resource_planning"]}
    return asked_of(decode_sections(only, schemas_of(only))["resource_planning"])


PLAN: tuple[click.Command, ...] = (plan, report, serve, rules)
