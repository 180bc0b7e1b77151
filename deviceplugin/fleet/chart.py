"""A forecast as SVG: what was, what is expected, and the band around it; pure."""

from collections.abc import Iterator, Sequence

from deviceplugin.forecast.outlook import Point
from deviceplugin.page.markup import tag, text

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 240, 56, 28, 24
STYLE = (
    ".chart{background:#fff;font:12px system-ui,sans-serif;max-width:100%}.chart text{fill:#16191d}"
    ".chart .band{fill:#0b6bcb;fill-opacity:.18}.chart .weak{fill:#64748b;fill-opacity:.15}"
    ".chart .line{fill:none;stroke:#0b6bcb;stroke-width:1.5}.chart .was{fill:none;stroke:#16191d}"
    ".chart .full{stroke:#c2410c;stroke-dasharray:5 3}.chart .grid{stroke:#c9ced6}"
    ".chart circle{fill:#c2410c}"
)


def chart(
    title: str,
    history: Sequence[float | None],
    points: Sequence[Point],
    *,
    capacity: float | None = None,
    dots: Sequence[float | None] = (),
) -> str:
    """The picture; `dots` are values beside the points. A band that was not tested is
    grey. The page around it has STYLE."""
    scale = _Scale(history, points, (*dots, capacity))
    parts = [
        tag("title", text(title)),
        tag("text", text(title), {"x": "8", "y": "18"}),
        *_grid(scale),
        *_bands(scale, points),
        *(tag("polyline", "", {"class": "was", "points": line}) for line in scale.lines(history)),
        tag("polyline", "", {"class": "line", "points": scale.line([p.value for p in points])}),
        *_dots(scale, dots),
        *([] if capacity is None else [scale.across(capacity, "full")]),
    ]
    box = {"class": "chart", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": title}
    return tag("svg", "".join(parts), {"xmlns": "http://www.w3.org/2000/svg", **box})


def picture(drawn: str) -> str:
    """A chart as a file of its own."""
    return drawn.replace(">", f">{tag('style', STYLE)}", 1)


class _Scale:
    """Where hours and values lie in the picture; hour 0 is the first one to come."""

    def __init__(
        self,
        history: Sequence[float | None],
        points: Sequence[Point],
        others: Sequence[float | None],
    ) -> None:
        values = [*history, *(point.high for point in points), *others]
        self.top = max((value for value in values if value is not None), default=0.0) or 1.0
        self._before = len(history)
        self._count = max(1, len(history) + len(points))

    def x(self, hour: int) -> float:
        return LEFT + (hour + self._before) / self._count * (WIDTH - LEFT - 8)

    def y(self, value: float) -> float:
        return TOP + (1 - value / self.top) * (HEIGHT - TOP - BOTTOM)

    def at(self, hour: int, value: float) -> str:
        return f"{self.x(hour):.1f},{self.y(value):.1f}"

    def line(self, values: Sequence[float]) -> str:
        return " ".join(self.at(hour, value) for hour, value in enumerate(values))

    def lines(self, history: Sequence[float | None]) -> Iterator[str]:
        """Lines of what was, interrupted where nothing was measured."""
        line: list[str] = []
        for index, value in enumerate(history):
            if value is None and line:
                yield " ".join(line)
                line = []
            elif value is not None:
                line.append(self.at(index - self._before, value))
        if line:
            yield " ".join(line)

    def across(self, value: float, kind: str) -> str:
        y = f"{self.y(value):.1f}"
        ends = {"x1": str(LEFT), "x2": str(WIDTH - 8), "y1": y, "y2": y}
        return tag("line", "", {"class": kind, **ends})


def _grid(scale: _Scale) -> Iterator[str]:
    for part in (0.0, 0.5, 1.0):
        value = scale.top * part
        yield scale.across(value, "grid")
        place = {"x": str(LEFT - 6), "y": f"{scale.y(value) + 4:.1f}", "text-anchor": "end"}
        yield tag("text", f"{value:.4g}", place)


def _bands(scale: _Scale, points: Sequence[Point]) -> Iterator[str]:
    hours = list(enumerate(points))
    tested = [(hour, one) for hour, one in hours if one.backed]
    for kind, part in (("band", tested), ("weak", hours[max(0, len(tested) - 1) :])):
        if len(part) > 1:
            above = [scale.at(hour, one.high) for hour, one in part]
            below = [scale.at(hour, one.low) for hour, one in reversed(part)]
            yield tag("polygon", "", {"class": kind, "points": " ".join((*above, *below))})


def _dots(scale: _Scale, values: Sequence[float | None]) -> Iterator[str]:
    for hour, value in enumerate(values):
        if value is not None and hour % 3 == 0:
            place = {"cx": f"{scale.x(hour):.1f}", "cy": f"{scale.y(value):.1f}", "r": "1.5"}
            yield tag("circle", "", place)
