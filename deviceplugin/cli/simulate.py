"""The command `simulate`: a trace through the scheduler's own code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from deviceplugin.cli.frame import format_option, parse_format, parse_number
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.cli.reading import reading_of, reading_options
from deviceplugin.cli.store import who_options
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.scheduler.objects import Reading
    from deviceplugin.simulate.replay import Outcome

MOST_PERCENT = 1000
MOST_REPLAYS = 100


@click.command(
    "simulate",
    help="""Replay a trace of nodes and pods through the scheduler's code, policies side by side.

    Pods arrive one at a time in a random order, then random ones of them until --until percent
    of the GPUs are requested. Nothing leaves, and what does not fit is dropped.

    With --timed they come and leave when the trace says, and what does not fit waits.
    """,
    short_help="Replay a trace through the scheduler's code, policies side by side.",
)
@click.option(
    "--nodes",
    metavar="FILE",
    help="Nodes: CSV, `kubectl get nodes -o json`, or Prometheus' answer.",
)
@click.option(
    "--pods", metavar="FILE", help="Pods: CSV, `kubectl get pods -A -o json`, or such an answer."
)
@click.option("--prometheus", metavar="URL", help="Take what no file is given for from there.")
@click.option("--days", metavar="NUMBER", default="7", help="Of pods, from there. Default 7.")
@who_options
@reading_options
@click.option(
    "--policies",
    metavar="LIST",
    help="Policies to compare, comma-separated. Default all: packing,best-fit,first-fit,spread.",
)
@click.option("--until", metavar="PERCENT", help="Of GPUs that are requested. Default 130.")
@click.option("--timed", is_flag=True, help="Pods come and leave when the trace says, and wait.")
@click.option("--load", metavar="PERCENT", help="With --timed: so many of the pods. Default 100.")
@click.option("--config", metavar="PATH", help="As of `scheduler`: classes, policies and weights.")
@click.option("--fair-share", metavar="LIST", help="With --timed, as of `scheduler`.")
@click.option("--starving-after", metavar="SECONDS", help="With --timed, as of `scheduler`. 300.")
@click.option("--keep-after", metavar="SECONDS", help="With --timed, as of `scheduler`. 0: never.")
@click.option("--replays", metavar="NUMBER", default="1", help="Orders of the pods. Default 1.")
@click.option("--seed", metavar="NUMBER", default="42", help="Of the first order. Default 42.")
@click.option(
    "--power",
    metavar="LIST",
    help="MODEL=IDLE:FULL, comma-separated: watts of a GPU. Adds what GPUs draw, and the policy"
    " power: packing that counts it.",
)
@click.option(
    "--power-weight",
    metavar="NUMBER",
    default="20",
    help="Of it, beside 50 of packing. Default 20.",
)
@click.option("--plot", metavar="FILE", help="Also write a plot there, as SVG.")
@format_option()
def simulate_command(
    *, timed: bool, form: str | None, plot: str | None, **flags: str | None
) -> None:
    form = parse_format(form)
    document, text, drawn = _timed(flags) if timed else _filled(flags)
    if plot:
        try:
            Path(plot).write_text(drawn(document), encoding="utf-8")
        except OSError as error:
            raise ConfigError("--plot", plot, "a file to write", reason=str(error)) from error
    click.echo(rendered(document, form, text), nl=False)


Flags = Mapping[str, str | None]


# A document, and how it is printed and drawn.
Answer = tuple[dict[str, Any], Callable[[Any], str], Callable[[Any], str]]
_TIMED = ("load", "fair_share", "starving_after", "keep_after")


def _timed(flags: Flags) -> Answer:
    from deviceplugin.cli.simulate_timed import timed_outcomes  # noqa: PLC0415  # not for `run`
    from deviceplugin.simulate.timed_report import (  # noqa: PLC0415  # not for `run`
        timed_document,
        timed_plot,
        timed_text,
    )

    for name in ("until", "power"):
        if flags[name]:
            raise ConfigError(f"--{name}", flags[name], "it without --timed, or --timed without it")
    outcomes, load = timed_outcomes(flags)
    return timed_document(outcomes, load), timed_text, timed_plot


def _filled(flags: Flags) -> Answer:
    from deviceplugin.simulate import report  # noqa: PLC0415  # not a part of `run`

    for name in _TIMED:
        if flags[name]:
            raise ConfigError(
                f"--{name.replace('_', '-')}", flags[name], "it together with --timed"
            )
    return report.document_of(_outcomes(flags)), report.simulation_text, report.plot


def _outcomes(flags: Flags) -> "dict[str, list[Outcome]]":
    from deviceplugin.cli.power import parse_power  # noqa: PLC0415
    from deviceplugin.cli.traces import read_trace  # noqa: PLC0415
    from deviceplugin.simulate.policies import policies  # noqa: PLC0415
    from deviceplugin.simulate.replay import Replay  # noqa: PLC0415
    from deviceplugin.simulate.trace import arrivals  # noqa: PLC0415

    power = parse_power(flags["power"], flags["power_weight"] or "")
    reading = reading_of_flags(flags)
    known = policies(power, reading.asking.weights)
    names = named_policies(flags["policies"], tuple(known))
    until = number_of(flags, "until", MOST_PERCENT, "130")
    seed = parse_number(flags["seed"] or "", "--seed")
    replays = number_of(flags, "replays", MOST_REPLAYS, "1")
    nodes, pods = read_trace(flags, reading)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    with progress("") as told:
        for name, found in outcomes.items():
            for order in range(seed, seed + replays):
                told.what = f"replaying {name}, {order - seed + 1} of {replays}"
                replay = Replay(nodes, pods, known[name], power)
                milli = replay.capacity_milli * until // 100
                arriving = arrivals(pods, milli, order, replay.asked_milli)
                found.append(replay.run(arriving, order))
    return outcomes


def reading_of_flags(flags: Flags) -> "Reading":
    """How GPUs are asked for, and what the configuration says; raises ConfigError."""
    from deviceplugin.cli.scheduler_config import asking_of_file  # noqa: PLC0415  # not for `run`

    return structs.replace(reading_of(flags), asking=asking_of_file(flags["config"]).asking)


def named_policies(text: str | None, known: Sequence[str]) -> Sequence[str]:
    """Raises ConfigError."""
    names = [name.strip() for name in text.split(",")] if text else known
    for name in names:
        if name not in known:
            raise ConfigError("--policies", name, f"one of {', '.join(known)}")
    return names


def number_of(flags: Flags, name: str, most: int, default: str) -> int:
    """From 1 to `most`; raises ConfigError."""
    text = default if flags[name] is None else flags[name] or ""
    number = parse_number(text, f"--{name}")
    if not 1 <= number <= most:
        raise ConfigError(f"--{name}", text, f"a number from 1 to {most}")
    return number
