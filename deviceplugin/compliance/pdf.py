"""A report as PDF, by reportlab (the extra `pdf`); the same report gives the same bytes."""

import html
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

from deviceplugin.errors import ConfigError

try:
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
    from reportlab.lib.units import mm
    from reportlab.platypus import (
        KeepTogether,
        Paragraph,
        SimpleDocTemplate,
        Spacer,
        Table,
        TableStyle,
    )
except ImportError as error:
    reason = f"PDF needs reportlab ({error}); install deviceplugin[pdf]"
    raise ConfigError("format", "pdf", "html or json", reason=reason) from error

Document = Mapping[str, Any]
_WIDTHS = (26 * mm, 122 * mm, 26 * mm)
_SHEETS = getSampleStyleSheet()
_BODY = ParagraphStyle("cell", parent=_SHEETS["BodyText"], fontSize=8.5, leading=11)
_WRONG = ParagraphStyle("wrong", parent=_BODY, textColor=colors.HexColor("#b3261e"))
_GAP = ParagraphStyle("gap", parent=_BODY, textColor=colors.HexColor("#57606a"))
_HASH = ParagraphStyle("hash", parent=_BODY, fontName="Courier", fontSize=7.5, wordWrap="CJK")
_GRID = TableStyle(
    [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.HexColor("#d0d7de")),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
    ]
)
_STYLES = {"violation": _WRONG}


def pdf_bytes(document: Document) -> bytes:
    """The file."""
    out = BytesIO()
    title = f"{document['title']}: node {document['node']}"
    edge = 18 * mm
    made = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=edge,
        rightMargin=edge,
        topMargin=edge,
        bottomMargin=edge,
        title=title,
        author="deviceplugin",
        invariant=1,
    )
    made.build(list(_flow(document)), onFirstPage=_footer(document), onLaterPages=_footer(document))
    return out.getvalue()


def _footer(document: Document) -> Any:
    def draw(canvas: Any, _: Any) -> None:
        canvas.setFont("Courier", 6.5)
        canvas.drawString(18 * mm, 10 * mm, f"{document['node']}  SHA-256 {document['sha256']}")
        canvas.drawRightString(A4[0] - 18 * mm, 10 * mm, str(canvas.getPageNumber()))

    return draw


def _flow(document: Document) -> Iterator[Any]:
    yield Paragraph(_plain(document["title"]), _SHEETS["Title"])
    yield Paragraph(_plain(document["about"]), _SHEETS["BodyText"])
    facts = (("Node", "node"), ("From", "since"), ("To", "taken_at"), ("SHA-256", "sha256"))
    rows = [(_cell(name), _cell(document[key], _HASH)) for name, key in facts]
    yield Table(rows, colWidths=(26 * mm, 148 * mm), style=_GRID)
    yield Paragraph("Violations", _SHEETS["Heading2"])
    if not document["violations"]:
        yield Paragraph("None was found.", _SHEETS["BodyText"])
    for one in document["violations"]:
        yield _cell(f"{one['text']} ({', '.join(one['controls'])})", _WRONG)
    for control in document["controls"]:
        head = Paragraph(_plain(f"{control['id']}  {control['title']}"), _SHEETS["Heading3"])
        yield KeepTogether([head, Table(list(_rows(control)), colWidths=_WIDTHS, style=_GRID)])
    yield Spacer(1, 6 * mm)
    yield Paragraph("Sources", _SHEETS["Heading2"])
    hashes = [(_cell(name), _cell(sha256, _HASH)) for name, sha256 in document["sources"].items()]
    yield Table(hashes, colWidths=(26 * mm, 148 * mm), style=_GRID)


def _rows(control: Document) -> Iterator[tuple[Any, ...]]:
    for one in control["evidence"]:
        style = _STYLES.get(one["verdict"], _BODY)
        yield (_cell(one["verdict"], style), _cell(one["text"], style), _cell(one["source"]))
    for text in control["gaps"]:
        yield (_cell("not evidenced", _GAP), _cell(text, _GAP), _cell(""))


def _cell(text: object, style: Any = _BODY) -> Any:
    return Paragraph(_plain(text), style)


def _plain(text: object) -> str:
    """Paragraphs have markup of their own."""
    return html.escape(str(text), quote=False)
