"""What replays came to: a document, a table, and a plot as SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.runtime.tables import table
from deviceplugin.simulate.replay import Outcome, Point

Document = dict[str, Any]
Outcomes = Mapping[str, Sequence[Outcome]]
COLUMNS = ("POLICY", "REPLAYS", "ALLOCATED", "DEVIATION", "FRAGMENTED", "PLACED", "REFUSED", "FROM")
WIDTH, HEIGHT, LEFT, TOP = 640, 400, 56, 24
COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#64748b")


def document_of(outcomes: Outcomes) -> Document:
    """Each policy with the means over its replays, in percent of the cluster's GPUs."""
    return {"policies": [_policy(name, found) for name, found in outcomes.items()]}


def _policy(name: str, found: Sequence[Outcome]) -> Document:
    ends = [outcome.points[-1] for outcome in found]
    allocated = mean([end.allocated for end in ends])
    return {
        "policy": name,
        "replays": len(found),
        "allocated_percent": round(allocated, 2),
        "deviation": round(math.sqrt(mean([(e.allocated - allocated) ** 2 for e in ends])), 2),
        "fragmented_percent": round(mean([end.fragmented for end in ends]), 2),
        **_watts(ends),
        "placed": round(mean([outcome.placed for outcome in found])),
        "refused": round(mean([outcome.refused for outcome in found])),
        "first_refused_at_percent": _first(found),
        "points": [point for outcome in found[:1] for point in _points(outcome)],
    }


def _points(outcome: Outcome) -> Iterator[Document]:
    """Of the first replay: those of others stand at other places."""
    for point in outcome.points:
        yield {
            "requested_percent": point.arrived,
            "allocated_percent": round(point.allocated, 2),
            "fragmented_percent": round(point.fragmented, 2),
            "refused": point.refused,
            **_watts([point]),
        }


def _first(found: Sequence[Outcome]) -> float | None:
    """Of the replays in which a pod was refused."""
    known = [one.full for one in found if one.full is not None]
    return round(mean(known), 1) if known else None


def _watts(points: Sequence[Point]) -> Document:
    """The mean; nothing where it is not known."""
    known = [point.watts for point in points if point.watts is not None]
    return {"drawn_watts": round(mean(known))} if known else {}


def mean(values: Sequence[float]) -> float:
    """Of one value at least."""
    return math.fsum(values) / len(values)


def simulation_text(document: Document) -> str:
    """The policies side by side; watts where it is known what GPUs draw."""
    drawn = any("drawn_watts" in one for one in document["policies"])
    return (
        table(
            (*COLUMNS, *["WATTS"] * drawn),
            [
                (
                    one["policy"],
                    str(one["replays"]),
                    f"{one['allocated_percent']:.2f} %",
                    f"{one['deviation']:.2f}",
                    f"{one['fragmented_percent']:.2f} %",
                    str(one["placed"]),
                    str(one["refused"]),
                    _percent(one["first_refused_at_percent"]),
                    *[str(one.get("drawn_watts"))] * drawn,
                )
                for one in document["policies"]
            ],
        )
        + "\n"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def plot(document: Document) -> str:
    """Allocated over requested percent, a line for each policy; it has a background of its own,
    so that it can be read on a light and on a dark page."""
    policies = document["policies"]
    points = [point for one in policies for point in one["points"]]
    most = max([100.0, *(point["requested_percent"] for point in points)])
    drawn = [*_frame(most)]
    for number, one in enumerate(policies):
        drawn += _line(one, COLOURS[number % len(COLOURS)], (number, most))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def _frame(most: float) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="16">GPUs allocated, % over GPUs requested, %</text>'
    for percent in range(0, 101, 20):
        x, y = _at(most, percent, most)
        yield f'<line x1="{LEFT}" y1="{y}" x2="{x}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{percent}</text>'
    for percent in range(0, round(most) + 1, 20):
        x, y = _at(percent, 0, most)
        yield f'<text x="{x}" y="{y + 18}" text-anchor="middle">{percent}</text>'


def _line(one: Document, colour: str, place: tuple[int, float]) -> Iterator[str]:
    number, most = place
    places = [_at(p["requested_percent"], p["allocated_percent"], most) for p in one["points"]]
    path = " ".join(f"{x},{y}" for x, y in places)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    end = f"{one['policy']} {one['allocated_percent']:.2f} %"
    y = HEIGHT - 60 - 18 * number
    yield f'<text x="{WIDTH - 24}" y="{y}" text-anchor="end" fill="{colour}">{escaped(end)}</text>'


def _at(requested: float, allocated: float, most: float) -> tuple[float, float]:
    wide, high = WIDTH - LEFT - 16, HEIGHT - TOP - 32
    return (
        round(LEFT + wide * requested / most, 1),
        round(TOP + high * (1 - allocated / 100), 1),
    )


def escaped(text: str) -> str:
    """For SVG."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
