"""The options that say how nodes and pods of a cluster are read, for the commands about one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deviceplugin.cli.frame import parse_number
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.scheduler.objects import Reading

F = TypeVar("F", bound=Callable[..., Any])
_READING = (
    click.option(
        "--shares",
        metavar="LIST",
        default="",
        help="RESOURCE=NUMBER, comma-separated: thousandths of a GPU that one of the resource is.",
    ),
    click.option("--model-label", metavar="NAME", help="The label of nodes with the GPU's model."),
)


def reading_options(command: F) -> F:
    """How a cluster's objects are read."""
    for option in reversed(_READING):
        command = option(command)
    return command


def reading_of(flags: Mapping[str, Any]) -> "Reading":
    """Raises ConfigError."""
    from deviceplugin.scheduler.objects import Reading  # noqa: PLC0415  # not a part of `run`

    return Reading(
        shares=_shares(flags["shares"] or ""),
        model_label=flags["model_label"] or Reading().model_label,
    )


def _shares(text: str) -> dict[str, int]:
    """Thousandths of a GPU by resource."""
    shares = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.strip().partition("=")
        milli = parse_number(number, "--shares") if number.isdecimal() else 0
        if not name or not 1 <= milli <= 1000:
            raise ConfigError("--shares", part, "RESOURCE=NUMBER, the number from 1 to 1000")
        shares[name] = milli
    return shares
