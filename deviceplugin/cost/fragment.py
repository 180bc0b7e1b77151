"""The bill as a part of a page: a bar for each group, and a table with its numbers; pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from deviceplugin.cost.pieces import Part

Document = Mapping[str, Any]
# By part: what is worth its money, and what is not.
COLOURS: Mapping[Part, str] = {
    Part.USED: "#15803d",
    Part.IDLE: "#c2410c",
    Part.STRANDED: "#7c3aed",
    Part.UNALLOCATED: "#94a3b8",
}
WIDTH, LEFT, ROW, TOP = 640, 150, 26, 34
MOST_GROUPS = 20


def cost_fragment(document: Document) -> str:
    """A part of a page."""
    rows = "".join(_row(one) for one in shown(document))
    heads = "".join(f"<th>{escape(part.value)}</th>" for part in Part)
    return (
        '<div class="cost">'
        f"<p>{escape(document['from'])} to {escape(document['until'])},"
        f" in {escape(document['currency'])}: {document['total']:,.2f}</p>"
        '<div class="wide" tabindex="0" role="region" aria-label="Cost as a picture">'
        f"{split_svg(document)}</div>"
        '<div class="wide" tabindex="0" role="region" aria-label="Cost by group">'
        f"<table><thead><tr><th>{escape(document['by'])}</th><th>GPU hours</th>{heads}"
        f"<th>total</th></tr></thead><tbody>{rows}</tbody></table></div></div>\n"
    )


def shown(document: Document) -> Sequence[Document]:
    """The groups that cost most, and the others together, so that the table is the bill."""
    groups = sorted(document["groups"], key=lambda one: (-one["total"], one["name"]))
    if len(groups) <= MOST_GROUPS:
        return groups
    rest = groups[MOST_GROUPS - 1 :]
    names = ("gpu_hours", "total", *(part.value for part in Part))
    sums = {name: round(sum(one[name] for one in rest), 4) for name in names}
    return [*groups[: MOST_GROUPS - 1], {"name": f"{len(rest)} others", **sums}]


def _row(one: Document) -> str:
    cells = "".join(f"<td>{one[part.value]:,.2f}</td>" for part in Part)
    return (
        f"<tr><th>{escape(one['name'])}</th><td>{one['gpu_hours']:,.1f}</td>{cells}"
        f"<td>{one['total']:,.2f}</td></tr>"
    )


def split_svg(document: Document) -> str:
    """A bar for each group, split into the four parts; it has a background of its own."""
    groups = shown(document)
    most = max([one["total"] for one in groups], default=0.0) or 1.0
    height = TOP + ROW * len(groups) + 8
    drawn = [*_legend()]
    for number, one in enumerate(groups):
        drawn += _bar(one, TOP + ROW * number, most)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="Cost by group and part" font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(drawn)}</svg>\n'
    )


def _legend() -> Iterator[str]:
    for number, part in enumerate(Part):
        x = LEFT + 115 * number
        yield f'<rect x="{x}" y="8" width="10" height="10" fill="{COLOURS[part]}"/>'
        yield f'<text x="{x + 15}" y="17">{escape(part.value)}</text>'


def _bar(one: Document, y: int, most: float) -> Iterator[str]:
    name = one["name"] if len(one["name"]) <= 22 else f"{one['name'][:21]}…"
    yield f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
    x, room = float(LEFT), WIDTH - LEFT - 90
    for part in Part:
        width = room * one[part.value] / most
        if width > 0:
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="18"'
                f' fill="{COLOURS[part]}"/>'
            )
        x += width
    yield f'<text x="{x + 6:.1f}" y="{y + 14}">{one["total"]:,.0f}</text>'
