"""Advice as a part of a page; pure."""

from collections.abc import Mapping
from html import escape
from typing import Any

Document = Mapping[str, Any]


def advice_fragment(document: Document) -> str:
    """A part of a page."""
    if not document["advice"]:
        body = f"<p>Nothing was found in {document['days']} days of history.</p>"
    else:
        rows = "".join(_row(one) for one in document["advice"])
        body = (
            f"<p>Savings are those of a replay of {document['days']} days, in"
            f" {escape(document['currency'])}; they overlap, so they are not to be added. What is"
            " freed is paid until GPUs are given back.</p>"
            '<div class="wide" tabindex="0" role="region" aria-label="Advice">'
            "<table><thead><tr><th>kind</th><th>subject</th><th>what</th><th>GPU hours</th>"
            f"<th>freed</th><th>paid less</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return f'<div class="advice">{body}</div>\n'


def _row(one: Document) -> str:
    saving = one["saving"] or {}
    names = ("gpu_hours", "freed", "paid_less")
    cells = "".join(f"<td>{saving[n]:,.2f}</td>" if n in saving else "<td></td>" for n in names)
    return (
        f"<tr><td>{escape(one['kind'])}</td><th>{escape(one['subject'])}</th>"
        f"<td>{escape(one['text'])}</td>{cells}</tr>"
    )
