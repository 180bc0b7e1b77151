"""Where the commands of a fleet have its past from: a store, or a file."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deviceplugin.cli.frame import parse_number
from deviceplugin.cli.store import WHO, access_of
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.cost.history import History
    from deviceplugin.cost.section import CostsSection
    from deviceplugin.metrics.store import Store

F = TypeVar("F", bound=Callable[..., Any])
MOST_DAYS = 366
STORE_DAYS = "35"  # the month so far, and some days before it
_STORES = "Prometheus, Thanos, Mimir, VictoriaMetrics."
STORE = (click.option("--store", metavar="URL", required=True, help=_STORES), *WHO)
_PAST = (
    click.option(
        "--history", metavar="FILE", help="What was measured, as CSV (docs/cost.md); or --store."
    ),
    click.option("--store", metavar="URL", help=f"Read it from a store: {_STORES}"),
    *WHO,
)
COSTS = click.option(
    "--costs", metavar="FILE", required=True, help="Prices and budgets: a file with `cost`."
)
DAYS = click.option(
    "--days",
    metavar="NUMBER",
    help=f"The last days alone. Default: all of a file, {STORE_DAYS} of a store.",
)


def options(command: F, found: tuple[Callable[[F], F], ...]) -> F:
    """The command with these options, in their order."""
    for option in reversed(found):
        command = option(command)
    return command


def past_options(command: F) -> F:
    """The command with a file or a store, and prices."""
    return options(command, (*_PAST, COSTS))


def store_of(flags: dict[str, Any]) -> "Store":
    """The store of STORE; raises ConfigError."""
    from deviceplugin.metrics.store import Store  # noqa: PLC0415  # not a part of `run`

    return Store(access_of(flags["store"], "--store", flags))


def read_past(flags: dict[str, Any], section: "CostsSection") -> "History":
    """The history of `--history`, or of `--store`; raises ConfigError and StoreError."""
    days = None if flags["days"] is None else days_of(flags["days"])
    if (flags["history"] is None) == (flags["store"] is None):
        text = "a file with a history, or --store and the URL of a store of metrics: one of the two"
        raise ConfigError("--history", flags["history"], text)
    if flags["store"] is not None:
        return past_of(flags, section, days or int(STORE_DAYS))
    from deviceplugin.cost.files import read_history  # noqa: PLC0415

    history = read_history(Path(flags["history"]))
    end = history.span[1]
    return history if days is None else history.between(end - 86400 * days, end)


def past_of(flags: dict[str, Any], section: "CostsSection", days: int) -> "History":
    """The last days of a store; raises ConfigError and StoreError."""
    from deviceplugin.fleet.past import read_past as asked  # noqa: PLC0415

    return asked(store_of(flags), time.time(), days, section.team_label)


def days_of(text: str) -> int:
    """A number of days; raises ConfigError."""
    days = parse_number(text, "--days")
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError("--days", text, f"a number from 1 to {MOST_DAYS}")
    return days
