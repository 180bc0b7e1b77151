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

from deviceplugin.learning.runs import Run
from deviceplugin.learning.train import fit, judge

CUT = "2017-11-13"


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
    given = parser.parse_args()
    cut = datetime.fromisoformat(given.cut).replace(tzinfo=UTC).timestamp()
    runs = read(given.file)
    weights = fit(run for run in runs if run.end < cut)
    figures, _, shift = judge(runs, weights, (cut, cut), len(runs))
    print(msgspec.json.encode({"figures": figures, "shift": round(shift, 3)}).decode())
    print(*(f"{weight:+.2f}" for weight in weights))


if __name__ == "__main__":
    main()
