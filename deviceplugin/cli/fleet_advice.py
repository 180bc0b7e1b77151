"""The commands `fleet advice` and `fleet replay`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deviceplugin.cli.fleet_cost import biller_of, read_costs
from deviceplugin.cli.fleet_source import past_of, past_options, read_past
from deviceplugin.cli.frame import format_option, parse_format
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.advice.values import Advice, Kind
    from deviceplugin.cost.history import History

DAYS = "30"
_DAYS = click.option(
    "--days", metavar="NUMBER", default=DAYS, help=f"The last days of the history. Default {DAYS}."
)


@click.command(
    "advice",
    help="""Show what could be had for less: each with the saving that a replay of the history
    gives, and a patch to review. Nothing is changed, unless --apply writes one piece of advice
    about the daemon's own configuration as a file beside the others of it.
    """,
    short_help="Show what could be had for less, by a replay of the history.",
)
@past_options
@_DAYS
@click.option(
    "--consent",
    is_flag=True,
    help="Let sizes be below the peak of the last 7 days: such a peak would end the process.",
)
@click.option("--apply", "apply_id", metavar="ID", help="Write the patch of this advice.")
@click.option("--config", metavar="DIR", help="The directory of the configuration; with --apply.")
@format_option()
def advice(
    form: str | None, apply_id: str | None, config: str | None, *, consent: bool, **flags: Any
) -> None:
    from deviceplugin.advice.report import advice_document, advice_text  # noqa: PLC0415

    form = parse_format(form)
    section = read_costs(flags["costs"])
    with progress("replaying the history with each change"):
        history = read_past(flags, section)
        found = _found(history, flags["costs"], consent=consent)
    if apply_id is not None:
        click.echo(_applied(found, apply_id, config), err=True)
        return
    start, end = history.span
    document = advice_document(found, section.currency, (end - start) / 86400)
    click.echo(rendered(document, form, advice_text), nl=False)


def priced(flags: dict[str, Any], days: int) -> dict[str, Any]:
    """The last days of a store as bill, budgets and advice; raises ConfigError and StoreError."""
    from deviceplugin.advice.report import advice_document  # noqa: PLC0415
    from deviceplugin.cost.budget import budget_document  # noqa: PLC0415
    from deviceplugin.cost.report import bill_document  # noqa: PLC0415

    section = read_costs(flags["costs"])
    history = past_of(flags, section, days)
    bill = biller_of(section).bill(history)
    found = _found(history, flags["costs"])
    return {
        "cost": bill_document(bill, "namespace", section.zone),
        "budgets": budget_document(bill, section),
        "advice": advice_document(found, section.currency, days),
    }


def _found(history: "History", costs: str, *, consent: bool = False) -> "list[Advice]":
    from deviceplugin.advice.advise import Adviser, worthwhile  # noqa: PLC0415  # not in `run`
    from deviceplugin.advice.wishes import Wishes  # noqa: PLC0415

    section = read_costs(costs)
    wishes = Wishes(consent=consent, interactive=section.interactive, kinds=_kinds(costs))
    return list(worthwhile(Adviser(history, biller_of(section), wishes).advice()))


@click.command(
    "replay",
    help="""Compute again what the advice ID saves: the history is billed as it was, and with the
    change that the file of `fleet advice --format json` names.
    """,
    short_help="Compute again what one piece of advice saves.",
)
@past_options
@_DAYS
@click.option("--advice", "file", metavar="FILE", required=True, help="The file with the advice.")
@click.argument("advice_id", metavar="ID")
@format_option()
def replay(form: str | None, file: str, advice_id: str, **flags: Any) -> None:
    from deviceplugin.advice.advise import Adviser  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.advice.report import replay_text, saving_document  # noqa: PLC0415
    from deviceplugin.advice.values import Change  # noqa: PLC0415
    from deviceplugin.config.schema import decode  # noqa: PLC0415

    form = parse_format(form)
    change = decode(_change(file, advice_id), Change, "change")
    section = read_costs(flags["costs"])
    with progress("replaying the history with the change"):
        history = read_past(flags, section)
        saving = saving_document(Adviser(history, biller_of(section)).saving(change))
    document = {"id": advice_id, "currency": section.currency, "saving": saving}
    click.echo(rendered(document, form, replay_text), nl=False)


def _kinds(costs: str) -> "frozenset[Kind] | None":
    """What `auto_optimization` and `cost_optimization` beside the prices ask for, None for
    everything; raises ConfigError."""
    from deviceplugin.advice import wishes  # noqa: PLC0415
    from deviceplugin.config.documents import schemas_of  # noqa: PLC0415
    from deviceplugin.config.files import read_config_files  # noqa: PLC0415
    from deviceplugin.config.schema import decode_sections  # noqa: PLC0415

    raw = read_config_files(Path(costs)).raw
    sections = decode_sections(raw, schemas_of(raw))
    keys = (
        ("auto_optimization", "optimizations", wishes.AUTO),
        ("cost_optimization", "optimization", wishes.COST),
    )
    found: list[frozenset[Kind]] = []
    for name, key, known in keys:
        section = sections.get(name)
        words = getattr(section, key, ()) if getattr(section, "enabled", False) else ()
        if strange := [word for word in words if word not in known]:
            raise ConfigError(f"{name}.{key}", strange[0], f"one of {', '.join(known)}")
        found += [wishes.kinds_of(words, known)] if words else []
    return found[0].union(*found[1:]) if found else None


def _change(file: str, advice_id: str) -> Any:
    """The change of one piece of advice, as the file has it; raises ConfigError."""
    try:
        document = json.loads(Path(file).read_text(encoding="utf-8"))
        found = {one["id"]: one["change"] for one in document["advice"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        text = "what `fleet advice --format json` wrote"
        raise ConfigError("--advice", file, text, reason=f"{text} ({error})") from error
    if found.get(advice_id) is None:
        known = ", ".join(name for name, change in found.items() if change is not None)
        raise ConfigError("ID", advice_id, f"one that has a saving: {known}")
    return found[advice_id]


def _applied(found: "list[Advice]", advice_id: str, config: str | None) -> str:
    from deviceplugin.cli.fleet_apply import apply  # noqa: PLC0415

    by_id = {one.id: one for one in found}
    if advice_id not in by_id:
        raise ConfigError("--apply", advice_id, f"one of {', '.join(by_id) or 'none: see above'}")
    one = by_id[advice_id]
    if one.patch_of != "configuration":
        text = "advice about the daemon's own configuration; a pod's patch is its owner's to apply"
        raise ConfigError("--apply", advice_id, text)
    if config is None or not Path(config).is_dir():
        raise ConfigError("--config", config, "a directory of the configuration's files")
    return apply(one, Path(config))


ADVICE: tuple[click.Command, ...] = (advice, replay)
