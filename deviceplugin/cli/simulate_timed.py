"""`simulate --timed`: pods that come, wait, run and leave."""

from collections.abc import Mapping, Sequence

from deviceplugin.cli.frame import parse_number
from deviceplugin.cli.progress import progress
from deviceplugin.cli.scheduler_config import asking_of_file, parse_fair_share
from deviceplugin.cli.simulate import (
    MOST_REPLAYS,
    Flags,
    named_policies,
    number_of,
    reading_of_flags,
)
from deviceplugin.cli.traces import read_timed
from deviceplugin.errors import ConfigError
from deviceplugin.scheduler.power import NO_POWER
from deviceplugin.simulate.coming import Timed, at_load
from deviceplugin.simulate.compare import Rules, TimedOutcome, ready, replayed
from deviceplugin.simulate.policies import policies

MOST_LOAD = 100_000
MOST_PODS = 1_000_000


def timed_outcomes(flags: Flags) -> tuple[Mapping[str, Sequence[TimedOutcome]], int]:
    """Of each policy its replays, and the load; raises ConfigError and StoreError."""
    reading = reading_of_flags(flags)
    known = policies(NO_POWER, reading.asking.weights)
    names = named_policies(flags["policies"], tuple(known))
    load = number_of(flags, "load", MOST_LOAD, "100")
    replays = number_of(flags, "replays", MOST_REPLAYS, "1")
    seed, rules = parse_number(flags["seed"] or "", "--seed"), _rules(flags)
    trace = read_timed(flags, reading)
    if len(trace.coming) * load // 100 > MOST_PODS:
        raise ConfigError("--load", str(load), f"so much that {MOST_PODS} pods come at most")
    outcomes: dict[str, list[TimedOutcome]] = {name: [] for name in names}
    with progress("") as told:
        for number in range(replays):
            some = _loaded(trace, load, seed + number)
            order = None if number == 0 else seed + number
            for name, found in outcomes.items():
                told.what = f"replaying {name}, {number + 1} of {replays}"
                found.append(replayed(some, reading, rules, (known[name], order)))
    return outcomes, load


def _loaded(trace: Timed, load: int, seed: int) -> Timed:
    coming = at_load(trace.coming, load, seed)
    return ready(Timed(nodes=trace.nodes, staying=trace.staying, coming=coming))


def _rules(flags: Flags) -> Rules:
    asked = asking_of_file(flags["config"])
    starving, keep = flags["starving_after"] or "300", flags["keep_after"] or "0"
    return Rules(
        fair=parse_fair_share(flags["fair_share"], starving, always=asked.fair),
        keep_after_s=parse_number(keep, "--keep-after"),
    )
