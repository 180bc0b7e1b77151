"""What each path of the page gives; loaded when the first one is asked for."""

import json
from collections.abc import Callable, Mapping

import msgspec

from deviceplugin.page.assets import SCRIPT, STYLE
from deviceplugin.page.model import Status
from deviceplugin.page.render import body, whole_page
from deviceplugin.page.sources import Sources
from deviceplugin.page.status import Known, status_of
from deviceplugin.runtime.part import Reply
from deviceplugin.schema import one_lined

AGAIN_MS = 2000  # a browser asks again so long after an event

Maker = Callable[[Sources, str, bool], str]


def status(sources: Sources, node: str, *, pods: bool) -> Status:
    """The document as it is now."""
    known = Known(
        node=node,
        at=sources.now(),
        inventory=sources.inventory(),
        held=tuple(sources.held()),
        listed=sources.listed(),
        view=sources.view(),
        trends=sources.trends(),
        alerts=sources.alerts(),
        notices=tuple(sources.notices()),
    )
    return status_of(known, pods=pods)


def document(sources: Sources, node: str) -> Reply:
    """The document as plain data, with pods."""
    plain: Reply = msgspec.to_builtins(status(sources, node, pods=True))
    return plain


def schema() -> str:
    """The JSON schema of the document."""
    return json.dumps(one_lined(msgspec.json.schema(Status)), indent=2) + "\n"


def _html(sources: Sources, node: str, pods: bool) -> str:
    return whole_page(status(sources, node, pods=pods))


def _event(sources: Sources, node: str, pods: bool) -> str:
    """One event, then the end: a browser asks again by itself (EventSource), and nobody who only
    looks holds a connection, of which there are few."""
    content = json.dumps(body(status(sources, node, pods=pods)))
    return f"retry: {AGAIN_MS}\nevent: status\ndata: {content}\n\n"


def _json(sources: Sources, node: str, pods: bool) -> str:
    encoded = msgspec.json.encode(status(sources, node, pods=pods))
    return msgspec.json.format(encoded).decode() + "\n"


MAKERS: Mapping[str, Maker] = {
    "html": _html,
    "event": _event,
    "json": _json,
    "schema": lambda *_: schema(),
    "style": lambda *_: STYLE,
    "script": lambda *_: SCRIPT,
}
