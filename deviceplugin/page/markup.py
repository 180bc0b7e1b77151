"""Pieces of HTML; whatever comes from outside is escaped here. Pure."""

from collections.abc import Iterable, Mapping, Sequence

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
SPARK_WIDTH, SPARK_HEIGHT = 120, 24


def text(value: object) -> str:
    """Any text as HTML, for content and for quoted attributes."""
    return str(value).translate(_ESCAPES)


def tag(name: str, content: str = "", attributes: Mapping[str, str] | None = None) -> str:
    """An element; `content` is HTML, the values of attributes are not."""
    pairs = "".join(f' {key}="{text(value)}"' for key, value in (attributes or {}).items())
    return f"<{name}{pairs}>{content}</{name}>"


def meter(label: str, ratio: float | None, words: str) -> str:
    """A bar with its name and value; one that is not known says so and has no bar."""
    caption = tag("span", text(label), {"class": "name"}) + tag(
        "span", text(words), {"class": "value"}
    )
    if ratio is None:
        return tag("div", caption, {"class": "meter absent"})
    held = min(max(ratio, 0.0), 1.0)
    bar = tag(
        "div", tag("i", "", {"style": f"width:{100 * held:.1f}%"}), _meter(label, held, words)
    )
    return tag("div", caption + bar, {"class": "meter"})


def _meter(label: str, ratio: float, words: str) -> Mapping[str, str]:
    return {
        "class": "bar high" if ratio >= 0.9 else "bar",
        "role": "meter",
        "aria-label": label,
        "aria-valuemin": "0",
        "aria-valuemax": "100",
        "aria-valuenow": f"{100 * ratio:.0f}",
        "aria-valuetext": words,
    }


def sparkline(label: str, values: Sequence[float | None]) -> str:
    """A curve of what is known; gaps stay gaps."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    points = _points(values, low, (high - low) or 1.0)
    title = tag("title", text(label))
    return tag(
        "svg",
        title + "".join(f'<polyline points="{line}"/>' for line in points),
        {
            "class": "spark",
            "viewBox": f"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}",
            "role": "img",
            "aria-label": label,
            "preserveAspectRatio": "none",
        },
    )


def _points(values: Sequence[float | None], low: float, span: float) -> Iterable[str]:
    step, line = SPARK_WIDTH / max(len(values) - 1, 1), list[str]()
    for number, value in enumerate(values):
        if value is None:
            if line:
                yield " ".join(line)
            line = []
        else:
            y = SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * (value - low) / span
            line.append(f"{number * step:.1f},{y:.1f}")
    if line:
        yield " ".join(line)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML; the first of each row is its head."""
    top = tag("tr", "".join(tag("th", text(cell), {"scope": "col"}) for cell in head))
    lines = "".join(
        tag("tr", tag("th", first, {"scope": "row"}) + "".join(tag("td", c) for c in rest))
        for first, *rest in rows
    )
    inside = tag("caption", text(caption)) + tag("thead", top) + tag("tbody", lines)
    # It can be wider than a phone; one with a keyboard has to reach it.
    wide = {"class": "wide", "tabindex": "0", "role": "region", "aria-label": caption}
    return tag("div", tag("table", inside), wide)
