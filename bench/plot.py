"""How cost grows, as a picture: `python -m bench.plot FIGURES.json PICTURE.svg`.

Small logarithmic panels over the number of devices. The picture has a background of its own, so
that it can be read on a light and on a dark page.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, COLUMNS = 300, 230, 3
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 44, 30
COLOURS = ("#0b6bcb", "#c2410c", "#15803d")


def panels(figures: Mapping[str, Any]) -> Mapping[str, Mapping[str, Points]]:
    """Title and lines of each panel."""
    sizes, fans = figures["sizes"], figures["fan_out"]
    calls = partial(_line, sizes, "calls")
    return {
        "start to the list, s": {"": _line(sizes, "start_s")},
        "Allocate of one id, ms": {
            "p50": calls("allocate_1", "p50_ms"),
            "p99": calls("allocate_1", "p99_ms"),
            "echo p50": calls("allocate_1", "echo_p50_ms"),
        },
        "preferred 8 of all ids, ms": {
            "p50": calls("prefer_8", "p50_ms"),
            "p99": calls("prefer_8", "p99_ms"),
            "echo p50": calls("prefer_8", "echo_p50_ms"),
        },
        "a fault to all lists, ms": {
            "1 stream": _line(fans, "1", "median_ms"),
            "10 streams": _line(fans, "10", "median_ms"),
            "50 streams": _line(fans, "50", "median_ms"),
        },
        "resident memory, MiB": {"": _line(sizes, "rss_mib")},
        "the list, KiB": {"": [(x, y / 1024) for x, y in _line(sizes, "list_bytes")]},
    }


def _line(rows: Iterable[Mapping[str, Any]], *keys: str) -> Points:
    points = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value[key]
        points.append((row["devices"], value))
    return points


def picture(figures: Mapping[str, Any]) -> str:
    """The SVG."""
    drawn = [
        f'<g transform="translate({n % COLUMNS * WIDTH},{n // COLUMNS * HEIGHT})">'
        + "".join(_panel(title, lines))
        + "</g>"
        for n, (title, lines) in enumerate(panels(figures).items())
    ]
    width, height = COLUMNS * WIDTH, -(-len(drawn) // COLUMNS) * HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="11" fill="#1f2328">'
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>' + "".join(drawn)
    ) + "</svg>\n"


def _panel(title: str, lines: Mapping[str, Points]) -> Iterator[str]:
    x_axis = _decades(x for points in lines.values() for x, _ in points)
    y_axis = _decades(y for points in lines.values() for _, y in points)
    yield f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{title}</text>'
    for power in x_axis:
        x = _x(10.0**power, x_axis)
        yield f'<path d="M{x} {TOP}V{HEIGHT - BOTTOM}" stroke="#d0d7de"/>'
        yield f'<text x="{x}" y="{HEIGHT - 12}" text-anchor="middle">{_short(10**power)}</text>'
    for power in y_axis:
        y = _y(10.0**power, y_axis)
        yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>'
    for (name, points), colour, at in zip(lines.items(), COLOURS, (0, 75, 150), strict=False):
        places = [(_x(x, x_axis), _y(y, y_axis)) for x, y in points]
        track = " ".join(f"{x},{y}" for x, y in places)
        yield f'<polyline points="{track}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places)
        yield f'<text x="{LEFT + at}" y="35" fill="{colour}">{name}</text>'


def _decades(values: Iterable[float]) -> range:
    """The powers of ten from below the smallest value to above the largest, two at least."""
    logs = [math.log10(value) for value in values]
    low = math.floor(min(logs))
    return range(low, max(math.ceil(max(logs)), low + 2) + 1)


def _short(count: int) -> str:
    return f"{count // 1000}k" if count >= 1000 else str(count)


def _x(value: float, axis: range) -> float:
    return round(LEFT + _part(value, axis) * (WIDTH - LEFT - RIGHT), 1)


def _y(value: float, axis: range) -> float:
    return round(HEIGHT - BOTTOM - _part(value, axis) * (HEIGHT - TOP - BOTTOM), 1)


def _part(value: float, axis: range) -> float:
    return (math.log10(value) - axis[0]) / (axis[-1] - axis[0])


def main(figures: str, target: str) -> None:
    """Draw one file from the other."""
    Path(target).write_text(picture(json.loads(Path(figures).read_text())))


if __name__ == "__main__":
    main(*sys.argv[1:])
