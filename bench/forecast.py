"""Forecasts held against a public series, or one of your own, beside naive ones.

Usage: python -m bench.forecast FILE.csv[.xz] COLUMN DAYS [--plot PICTURE.svg]

FILE has a column `time`; rows of the same time are added up, and hours are means. The last DAYS are
judged, from an origin every six hours, by what was known at it. What a row does not have is not
measured.
"""

import argparse
import csv
import lzma
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path

from deviceplugin.fleet.chart import chart, picture
from deviceplugin.forecast.horizon import Step, walk
from deviceplugin.forecast.outlook import HORIZONS, Point
from deviceplugin.forecast.past import DAY, WEEK, Past
from deviceplugin.runtime.tables import table

EVERY_H = 6
HEAD = ("AHEAD", "ORIGINS", "ERROR", "LAST VALUE", "YESTERDAY", "LAST WEEK", "IN THE 80 % BAND")


def read(path: Path, column: str) -> list[float | None]:
    """The means of the hours."""
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode()
    sums: dict[str, float] = defaultdict(float)
    for row in csv.DictReader(text.splitlines()):
        if row[column]:
            sums[row["time"]] += float(row[column])
    hours: dict[int, list[float]] = defaultdict(list)
    for time, value in sums.items():
        hours[int(datetime.fromisoformat(f"{time}+00:00").timestamp() // 3600)].append(value)
    found = range(min(hours), max(hours) + 1)
    return [sum(hours[h]) / len(hours[h]) if h in hours else None for h in found]


def judged(past: Past, ahead: int, days: int) -> list[tuple[Step, float]]:
    """Forecasts and what came, within the days that are judged."""
    first = len(past.values) - days * DAY
    return [
        (step, step.actual)
        for step in walk(past, ahead, 1)[1]
        if step.actual is not None and step.origin >= first and (step.origin - first) % EVERY_H == 0
    ]


def row(past: Past, ahead: int, days: int) -> list[str]:
    """A line of the table."""
    found = judged(past, ahead, days)
    total = sum(actual for _, actual in found)
    banded = [s.low <= a <= s.high for s, a in found if s.low is not None and s.high is not None]

    def error(pairs: list[tuple[float | None, float]]) -> str:
        known = [(value, actual) for value, actual in pairs if value is not None]
        return f"{100 * sum(abs(v - a) for v, a in known) / total:.2f} %" if known else "-"

    return [
        f"{ahead} h",
        str(len(found)),
        error([(s.value, a) for s, a in found]),
        error([(past.last(s.origin), a) for s, a in found]),
        *(error([(past.same_hour(s.origin, ahead, p), a) for s, a in found]) for p in (DAY, WEEK)),
        f"{100 * sum(banded) / len(banded):.0f} %" if banded else "-",
    ]


def main() -> None:
    """Print the table, and write the picture of forecasts made a day before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("column")
    parser.add_argument("days", type=int)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    past = Past(read(asked.file, asked.column))
    known = [h for h in HORIZONS if len(judged(past, h, asked.days)) > 3]
    sys.stdout.write(table(HEAD, [row(past, h, asked.days) for h in known]) + "\n")
    if asked.plot:
        steps = walk(past, DAY, 1)[1][-asked.days * DAY - DAY : -DAY]
        points = [
            Point(ahead_h=n, value=s.value, low=s.low or 0.0, high=s.high or 0.0, backed=True)
            for n, s in enumerate(steps)
        ]
        actual = [s.actual for s in steps]
        title = f"{asked.column}: a day ahead (line and band), and what came (dots)"
        drawn = picture(chart(title, (), points, dots=actual))
        asked.plot.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
