"""What the power that GPUs take costs in GPUs allocated: `python -m bench.power DIR`, with DIR the
folder `data/csv` of hkust-adsl/kubernetes-scheduler-simulator.

The trace `default`, replayed as for packing, with several weights of power. The watts of each model
are assumptions of round size: of the anonymous G2 and G3 those of an A10 and an A100.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from deviceplugin.scheduler.packing import cost
from deviceplugin.scheduler.parts import Weights
from deviceplugin.scheduler.power import Draw, Power
from deviceplugin.simulate.replay import Outcome, Point, Replay
from deviceplugin.simulate.trace import arrivals, read_nodes, read_pods

DRAWS: Mapping[str, Draw] = {
    "A10": Draw(25, 150),
    "G2": Draw(25, 150),
    "G3": Draw(50, 400),
    "P100": Draw(25, 250),
    "T4": Draw(10, 70),
    "V100M16": Draw(30, 300),
    "V100M32": Draw(30, 300),
}
WEIGHTS = (0, 5, 10, 20, 50)
SHOWN = (30, 50, 70, 90, 130)
TUNE = 1.3


def replayed(folder: Path, weight: int, seed: int) -> Outcome:
    """One run."""
    nodes = read_nodes(folder / "openb_node_list_gpu_node.csv")
    pods = read_pods(folder / "openb_pod_list_default.csv")
    power = Power(weight=weight, draws=DRAWS)
    replay = Replay(nodes, pods, partial(cost, weights=Weights(power=power)), power)
    return replay.run(arrivals(pods, round(replay.capacity_milli * TUNE), seed), seed)


def at(outcome: Outcome, percent: int) -> Point:
    """How it stood when so much was requested."""
    return min(outcome.points, key=lambda point: abs(point.arrived - percent))


def rows(runs: Mapping[int, Sequence[Outcome]]) -> Iterator[str]:
    """A line for each weight, as Markdown: power against weight 0, and GPUs allocated."""
    yield f"| weight | {' | '.join(f'{p} %' for p in SHOWN)} | allocated at 90 % | at 130 % |"
    yield "|---" * (len(SHOWN) + 3) + "|"
    plain = [statistics.fmean(at(one, p).watts or 0.0 for one in runs[0]) for p in SHOWN]
    for weight, found in runs.items():
        watts = [statistics.fmean(at(one, p).watts or 0.0 for one in found) for p in SHOWN]
        cells = [
            f"{power / 1000:.1f} kW" if not weight else f"{100 * (power / before - 1):+.1f} %"
            for power, before in zip(watts, plain, strict=True)
        ]
        for percent in (90, 130):
            mean = statistics.fmean(at(one, percent).allocated for one in found)
            cells.append(f"{mean:.2f} %")
        yield f"| {weight} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="42,43,44")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    runs = {weight: [replayed(given.folder, weight, seed) for seed in seeds] for weight in WEIGHTS}
    print(*rows(runs), sep="\n")


if __name__ == "__main__":
    main()
