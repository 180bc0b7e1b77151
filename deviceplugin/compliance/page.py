"""A report as a page of its own, without scripts or anything from elsewhere; pure."""

import html
from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
_STYLE = """\
body{font:14px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}
h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #d0d7de;padding:.3rem .5rem;text-align:left;vertical-align:top}
.violation{color:#b3261e;font-weight:600}
.gap{color:#57606a}
code{font-size:.8em;overflow-wrap:anywhere}
"""


def page_text(document: Document) -> str:
    """The page."""
    title = f"{document['title']}: node {document['node']}"
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{_plain(title)}</title>\n'
        f"<style>\n{_STYLE}</style></head><body>\n{''.join(_parts(document))}</body></html>\n"
    )


def _parts(document: Document) -> Iterator[str]:
    yield f"<h1>{_plain(document['title'])}</h1>\n<p>{_plain(document['about'])}</p>\n"
    yield "<table>\n"
    for name, key in (
        ("Node", "node"),
        ("From", "since"),
        ("To", "taken_at"),
        ("SHA-256", "sha256"),
    ):
        yield f"<tr><th>{name}</th><td><code>{_plain(document[key])}</code></td></tr>\n"
    yield "</table>\n<h2>Violations</h2>\n"
    yield from _violations(document)
    for control in document["controls"]:
        yield f"<h2>{_plain(control['id'])} {_plain(control['title'])}</h2>\n<table>\n"
        yield from _rows(control)
        yield "</table>\n"
    yield "<h2>Sources</h2>\n<table>\n"
    for name, sha256 in document["sources"].items():
        yield f"<tr><td>{_plain(name)}</td><td><code>{_plain(sha256)}</code></td></tr>\n"
    yield "</table>\n"


def _violations(document: Document) -> Iterator[str]:
    if not document["violations"]:
        yield "<p>None was found.</p>\n"
        return
    yield "<ul>\n"
    for one in document["violations"]:
        ids = _plain(", ".join(one["controls"]))
        yield f'<li class="violation">{_plain(one["text"])} ({ids})</li>\n'
    yield "</ul>\n"


def _rows(control: Document) -> Iterator[str]:
    for one in control["evidence"]:
        kind, source = _plain(one["verdict"]), _plain(one["source"])
        cells = f"<td>{kind}</td><td>{_plain(one['text'])}</td><td>{source}</td>"
        yield f'<tr class="{kind}">{cells}</tr>\n'
    for text in control["gaps"]:
        yield f'<tr class="gap"><td>not evidenced</td><td>{_plain(text)}</td><td></td></tr>\n'


def _plain(text: object) -> str:
    return html.escape(str(text))
