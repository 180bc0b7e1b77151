"""The command `simulate`: a trace through the scheduler's own code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deviceplugin.cli.frame import format_option, parse_format, parse_number
from deviceplugin.cli.output import rendered
from deviceplugin.cli.progress import progress
from deviceplugin.cli.reading import reading_of, reading_options
from deviceplugin.cli.store import who_options
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.scheduler.demand import Demand
    from deviceplugin.scheduler.room import NodeState
    from deviceplugin.simulate.replay import Outcome

MOST_PERCENT = 1000
MOST_REPLAYS = 100


@click.command(
    "simulate",
    help="""Replay a trace of nodes and pods through the scheduler's code, policies side by side.

    Pods arrive one at a time in a random order, then random ones of them until --until percent
    of the GPUs are requested. Nothing leaves, and what does not fit is dropped.
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
@click.option("--until", metavar="PERCENT", default="130", help="Default 130.")
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
def simulate_command(form: str | None, plot: str | None, **flags: str | None) -> None:
    from deviceplugin.simulate import report  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form)
    document = report.document_of(_outcomes(flags))
    if plot:
        try:
            Path(plot).write_text(report.plot(document), encoding="utf-8")
        except OSError as error:
            raise ConfigError("--plot", plot, "a file to write", reason=str(error)) from error
    click.echo(rendered(document, form, report.simulation_text), nl=False)


Flags = Mapping[str, str | None]


def _outcomes(flags: Flags) -> "dict[str, list[Outcome]]":
    from deviceplugin.cli.power import parse_power  # noqa: PLC0415
    from deviceplugin.simulate.policies import policies  # noqa: PLC0415
    from deviceplugin.simulate.replay import Replay  # noqa: PLC0415
    from deviceplugin.simulate.trace import arrivals  # noqa: PLC0415

    power = parse_power(flags["power"], flags["power_weight"] or "")
    known = policies(power)
    names = _named(flags["policies"], tuple(known))
    until = _number(flags, "until", MOST_PERCENT)
    seed = parse_number(flags["seed"] or "", "--seed")
    replays = _number(flags, "replays", MOST_REPLAYS)
    nodes, pods = _trace(flags)
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


def _trace(flags: Flags) -> "tuple[Sequence[NodeState], Sequence[Demand]]":
    from deviceplugin.cli.traces import read_trace  # noqa: PLC0415

    return read_trace(flags, reading_of(flags))


def _named(text: str | None, known: Sequence[str]) -> Sequence[str]:
    names = [name.strip() for name in text.split(",")] if text else known
    for name in names:
        if name not in known:
            raise ConfigError("--policies", name, f"one of {', '.join(known)}")
    return names


def _number(flags: Flags, name: str, most: int) -> int:
    text = flags[name] or ""
    number = parse_number(text, f"--{name}")
    if not 1 <= number <= most:
        raise ConfigError(f"--{name}", text, f"a number from 1 to {most}")
    return number
