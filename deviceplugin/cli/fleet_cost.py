"""The command `fleet cost`."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deviceplugin.cli.frame import format_option, parse_format
from deviceplugin.cli.output import rendered
from deviceplugin.config.config import Setting, parse_choice
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.cost.bill import Biller
    from deviceplugin.cost.history import History
    from deviceplugin.cost.section import CostsSection

FORMS = ("table", "json", "yaml", "csv", "focus", "opencost")
GROUPS = ("namespace", "owner", "team", "pod", "node", "vendor", "model", "day")
HISTORY = click.option(
    "--history", metavar="FILE", required=True, help="What was measured, as CSV (docs/cost.md)."
)
COSTS = click.option(
    "--costs", metavar="FILE", required=True, help="Prices and budgets: a file with `cost`."
)


@click.command(
    "cost",
    help="""Show what GPUs cost, by who had them: used, allocated-idle, stranded and unallocated,
    which are the bill together.
    """,
    short_help="Show what GPUs cost, by who had them.",
)
@HISTORY
@COSTS
@click.option(
    "--by",
    metavar=f"[{'|'.join(GROUPS)}]",
    default=GROUPS[0],
    help="What to group the bill by. Default namespace.",
)
@format_option(FORMS)
def cost(history: str, costs: str, by: str, form: str | None) -> None:
    from deviceplugin.cost import export, report  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form, FORMS)
    by = parse_choice(Setting(by, "--by"), GROUPS)
    section = read_costs(costs)
    bill = biller_of(section).bill(read(history))
    if form in export.FORMS:
        click.echo(export.FORMS[form](bill, section.zone), nl=False)
        return
    document = report.bill_document(bill, by, section.zone)
    if form == "csv":
        click.echo(export.bill_csv(document), nl=False)
        return
    click.echo(rendered(document, form, report.bill_text), nl=False)


def read(path: str) -> "History":
    """A history; raises ConfigError."""
    from deviceplugin.cost.files import read_history  # noqa: PLC0415

    return read_history(Path(path))


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


COST: tuple[click.Command, ...] = (cost,)
