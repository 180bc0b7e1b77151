"""How well runs are predicted, on jobs of another cluster: `python -m bench.prediction FILE`.

FILE is CSV with `timestamp` (submission), `duration` (seconds), `num_gpus` and `cluster`, as in
`pollux/pollux_simulator/traces/philly.csv` of pkusys/ElasticFlow (82,247 jobs of Philly, CC-BY-4.0,
Jeon et al., USENIX ATC 2019). The weights are fitted on the jobs that ended before the cut; those
submitted after it are predicted one after the other from jobs that had ended by then. Nothing in
the file names a job's owner; the number of its GPUs stands in for it.
"""

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.targets import Target
from deviceplugin.learning.expected import MEANS
from deviceplugin.learning.predict import FEATURES
from deviceplugin.learning.runs import Run
from deviceplugin.learning.train import fit, judge

CUT = "2017-11-13"
MEANT = {
    "factor": Target("median factor", most=1.40),
    "twice_percent": Target("percent within a factor of two", least=66),
    "r2": Target("R2 of the logarithm", least=0.5),
    "covered_percent": Target("percent below the upper end for 90 %", least=87, most=93),
}


def read(path: Path) -> list[Run]:
    """The jobs."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Run(
                namespace=row["cluster"],
                owner=row["num_gpus"],
                start=datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp(),
                seconds=max(1.0, float(row["duration"])),
            )
            for row in csv.DictReader(file)
        ]


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cut", default=CUT)
    parser.add_argument("--until", default="9999-01-01", help="jobs from here on do not exist")
    given = parser.parse_args()
    cut, until = (
        datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
        for day in (given.cut, given.until)
    )
    runs = [run for run in read(given.file) if run.start < until]
    learned = fit(run for run in runs if run.end < cut)
    figures, _, shift = judge(runs, learned, (cut, cut), len(runs))
    print(msgspec.json.encode({"figures": figures, "shift": round(shift, 3)}).decode())
    if figures is not None:
        print(*(target.told(getattr(figures, name)) for name, target in MEANT.items()), sep="\n")
    print(*(f"{name}: {w:+.3f}" for name, w in zip(FEATURES, learned.votes, strict=True)), sep="\n")
    for name, one in zip(MEANS, learned.means, strict=True):
        print(f"{name}: {one.weight:+.3f} from {one.low:.3g} to {one.high:.3g}")


if __name__ == "__main__":
    main()
