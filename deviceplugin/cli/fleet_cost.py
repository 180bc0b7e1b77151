"""The command `fleet cost`."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deviceplugin.cli.fleet_source import DAYS, past_options, read_past
from deviceplugin.cli.frame import format_option, parse_format
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.config.config import Setting, parse_choice
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.cost.bill import Biller
    from deviceplugin.cost.section import CostsSection

FORMS = ("table", "json", "yaml", "csv", "focus", "opencost")
GROUPS = ("namespace", "owner", "team", "pod", "node", "vendor", "model", "day")


@click.command(
    "cost",
    help="""Show what GPUs cost, by who had them: used, allocated-idle, stranded and unallocated,
    which are the bill together.
    """,
    short_help="Show what GPUs cost, by who had them.",
)
@past_options
@DAYS
@click.option(
    "--by",
    metavar=f"[{'|'.join(GROUPS)}]",
    default=GROUPS[0],
    help="What to group the bill by. Default namespace.",
)
@format_option(FORMS)
def cost(by: str, form: str | None, **flags: Any) -> None:
    from deviceplugin.cost import export, report  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form, FORMS)
    by = parse_choice(Setting(by, "--by"), GROUPS)
    section = read_costs(flags["costs"])
    with progress("making the bill"):
        bill = biller_of(section).bill(read_past(flags, section))
    if form in export.FORMS:
        click.echo(export.FORMS[form](bill, section.zone), nl=False)
        return
    document = report.bill_document(bill, by, section.zone)
    if form == "csv":
        click.echo(export.bill_csv(document), nl=False)
        return
    click.echo(rendered(document, form, report.bill_text), nl=False)


def read_costs(path: str) -> "CostsSection":
    """The section `cost` of a file; raises ConfigError."""
    from deviceplugin.config.files import read_config_files  # noqa: PLC0415
    from deviceplugin.config.schema import decode  # noqa: PLC0415
    from deviceplugin.cost.section import CostsSection  # noqa: PLC0415

    raw = read_config_files(Path(path)).raw
    if "cost" not in raw:
        raise ConfigError("--costs", path, "a file with the section `cost`: see docs/cost.md")
    section: CostsSection = decode(raw["cost"] or {}, CostsSection, "cost")
    return section


def biller_of(section: "CostsSection") -> "Biller":
    """Makes bills by these prices, with the carbon of the countries that are shipped; raises
    ConfigError."""
    from deviceplugin.cost.bill import Biller  # noqa: PLC0415
    from deviceplugin.cost.files import intensities  # noqa: PLC0415

    known = intensities()
    _check_countries(section, known)
    return Biller(section, known)


def _check_countries(section: "CostsSection", known: Collection[str]) -> None:
    stated = {"cost.country": section.country}
    stated |= {f"cost.nodes[{n}].country": one.country for n, one in enumerate(section.nodes)}
    for key, country in stated.items():
        if country is not None and country not in known:
            raise ConfigError(key, country, "a country as ISO 3166-1 alpha-3, such as DEU or USA")


@click.command(
    "history",
    help="""Make a history of what a store of metrics answered to the queries that --queries
    prints, one a line with its name: as files NAME.json of /api/v1/query_range, a value for each
    hour at its end.
    """,
    short_help="Make a history of the answers of a store of metrics.",
)
@click.option("--queries", is_flag=True, help="Print what to ask: a name, a tab and the query.")
@click.option("--replies", metavar="DIR", help="The directory with the answers.")
@click.option("--write", metavar="FILE", help="Where the history goes.")
@click.option(
    "--team-label", metavar="NAME", default="team", help="The pods' label of teams. Default team."
)
def history(replies: str | None, write: str | None, team_label: str, *, queries: bool) -> None:
    from deviceplugin.cost.files import write_history  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cost.replies import read_replies  # noqa: PLC0415
    from deviceplugin.cost.series import QUERIES, history_of  # noqa: PLC0415

    if queries:
        for name, query in QUERIES.items():
            click.echo(f"{name}\t{query}")
        return
    if replies is None or write is None:
        text = "with --write a directory of answers; or --queries alone"
        raise ConfigError("--replies", replies, text)
    with progress("making the history"):
        found = history_of(read_replies(Path(replies)), team_label)
        write_history(Path(write), found)
    click.echo(f"{len(found.devices)} devices, {len(found.cells)} device hours", err=True)


COST: tuple[click.Command, ...] = (cost, history)
