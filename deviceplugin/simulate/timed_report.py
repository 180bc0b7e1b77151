"""What replays with times came to: a document, a table, and a plot as SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence

from deviceplugin.runtime.tables import table
from deviceplugin.simulate.compare import TimedOutcome
from deviceplugin.simulate.report import COLOURS, Document, escaped, mean
from deviceplugin.simulate.timeline import quantile

Outcomes = Mapping[str, Sequence[TimedOutcome]]
COLUMNS = ("POLICY", "ALLOCATED", "FRAGMENTED", "WAITING", "WAITED")
LAST = ("MEDIAN", "P90", "P99", "LONGEST", "NEVER", "MAKESPAN")
QUANTILES = {"median_s": 0.5, "p90_s": 0.9, "p99_s": 0.99, "longest_s": 1.0}
WIDTH, HIGH, LEFT, TOP, GAP = 640, 180, 56, 28, 40
HEIGHT = 2 * HIGH + GAP + TOP + 40


def timed_document(outcomes: Outcomes, load: int) -> Document:
    """Each policy with the means over its replays."""
    first = next(iter(outcomes.values()))[0]
    return {
        "load_percent": load,
        "pods": first.pods,
        "pods_with_gpus": len(first.waits),
        "fit_nowhere": first.fit_nowhere,
        "policies": [_policy(name, found) for name, found in outcomes.items()],
    }


def _policy(name: str, found: Sequence[TimedOutcome]) -> Document:
    allocated = [one.levels.allocated for one in found]
    middle = mean(allocated)
    return {
        "policy": name,
        "replays": len(found),
        "allocated_percent": round(middle, 2),
        "deviation": round(math.sqrt(mean([(one - middle) ** 2 for one in allocated])), 2),
        "fragmented_percent": round(mean([one.levels.fragmented for one in found]), 2),
        "waiting_percent": round(mean([one.levels.waiting for one in found]), 2),
        "waiting_pods": round(mean([one.levels.pods for one in found]), 2),
        "most_waiting_pods": max(one.most_waiting for one in found),
        "waited": round(mean([one.waited for one in found])),
        **{key: _quantile(found, part) for key, part in QUANTILES.items()},
        "never_placed": round(mean([one.never for one in found])),
        "makespan_s": _makespan(found),
        "points": list(_points(found[0])),
    }


def _quantile(found: Sequence[TimedOutcome], part: float) -> float | None:
    values = [quantile(one.waits, part) for one in found]
    known = [value for value in values if value is not None]
    return round(mean(known), 1) if known else None


def _makespan(found: Sequence[TimedOutcome]) -> float | None:
    known = [one.seconds for one in found if one.seconds is not None]
    return round(mean(known), 1) if len(known) == len(found) else None


def _points(one: TimedOutcome) -> Iterator[Document]:
    for seconds, levels in one.points:
        yield {
            "seconds": round(seconds, 1),
            "allocated_percent": round(levels.allocated, 2),
            "fragmented_percent": round(levels.fragmented, 2),
            "waiting_percent": round(levels.waiting, 2),
            "waiting_pods": round(levels.pods, 2),
        }


def timed_text(document: Document) -> str:
    """The policies side by side."""
    rows = [
        (
            one["policy"],
            f"{one['allocated_percent']:.2f} %",
            f"{one['fragmented_percent']:.2f} %",
            f"{one['waiting_percent']:.2f} %",
            str(one["waited"]),
            *(span(one[key]) for key in QUANTILES),
            str(one["never_placed"]),
            span(one["makespan_s"]),
        )
        for one in document["policies"]
    ]
    told = table((*COLUMNS, *LAST), rows)
    nowhere = document["fit_nowhere"]
    note = (
        f"Pods that fit on no node, even on empty ones, and that do not count: {nowhere}.\n"
        if nowhere
        else ""
    )
    asked = f"{document['pods_with_gpus']} pods with GPUs at {document['load_percent']} % load"
    return f"{told}\n\n{asked}.\n{note}"


_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float | None) -> str:
    """As people say it."""
    if seconds is None:
        return "-"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def timed_plot(document: Document) -> str:
    """Allocated above, what waits below, a line for each policy; it has a background of its own."""
    policies = document["policies"]
    last = max([1.0, *(p["seconds"] for one in policies for p in one["points"])])
    most = max([1.0, *(p["waiting_percent"] for one in policies for p in one["points"])])
    panels = (
        ("GPUs allocated, %", "allocated_percent", (last, 100.0), TOP),
        ("GPUs that waiting pods ask for, %", "waiting_percent", (last, most), TOP + HIGH + GAP),
    )
    drawn = [piece for panel in panels for piece in _panel(policies, *panel)]
    drawn += _times(last)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def _panel(
    policies: Sequence[Document], title: str, key: str, most: tuple[float, float], top: int
) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{top - 8}">{title}</text>'
    for part in range(5):
        value = most[1] * part / 4
        x, y = _at((most[0], value), most, top)
        yield f'<line x1="{LEFT}" y1="{y}" x2="{x}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.3g}</text>'
    for number, one in enumerate(policies):
        colour = COLOURS[number % len(COLOURS)]
        places = [_at((p["seconds"], p[key]), most, top) for p in one["points"]]
        path = " ".join(f"{x},{y}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        x = WIDTH - 16 - 110 * (len(policies) - 1 - number)
        name = escaped(one["policy"])
        yield f'<text x="{x}" y="16" text-anchor="end" fill="{colour}">{name}</text>'


def _times(last: float) -> Iterator[str]:
    size, unit = next((pair for pair in _UNITS if last >= 2 * pair[0]), (1, "s"))
    y = HEIGHT - 12
    for part in range(5):
        x, _ = _at((last * part / 4, 0), (last, 1.0), 0)
        text = f"{last * part / 4 / size:.3g} {unit}"
        yield f'<text x="{x}" y="{y}" text-anchor="middle">{text}</text>'


def _at(value: tuple[float, float], most: tuple[float, float], top: int) -> tuple[float, float]:
    wide = WIDTH - LEFT - 32
    x, y = LEFT + wide * value[0] / most[0], top + HIGH * (1 - value[1] / most[1])
    return round(x, 1), round(y, 1)
