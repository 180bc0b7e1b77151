"""The document of /metrics as OpenMetrics 1.0, for who asks for it by `Accept`; pure.

Made of the text that everybody else gets: a counter's family is named without `_total`, one that
has no such name (other exporters' names) is of unknown type, and the document says where it ends.
"""

import re
from functools import lru_cache

from deviceplugin.metrics.registry import CONTENT_TYPE
from deviceplugin.runtime.part import Response

MEDIA_TYPE = "application/openmetrics-text"
OPENMETRICS_TYPE = f"{MEDIA_TYPE}; version=1.0.0; charset=utf-8"
_META = re.compile(r"# (HELP|TYPE) (\S+) (.*)")
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?\s*$")


def wants_openmetrics(head: bytes) -> bool:
    """Whether a request's head accepts OpenMetrics; weights between types are not compared."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        if name.strip().lower() == "accept":
            kinds = [kind.partition(";") for kind in value.split(",")]
            return any(
                kind.strip().lower() == MEDIA_TYPE and not _REFUSED.search(rest)
                for kind, _, rest in kinds
            )
    return False


@lru_cache(maxsize=2)
def as_openmetrics(response: Response) -> Response:
    """The same document; any other page is left as it is."""
    if response.content_type != CONTENT_TYPE or not response.status.startswith("200"):
        return response
    return Response(response.status, OPENMETRICS_TYPE, openmetrics_text(response.text))


def openmetrics_text(text: str) -> str:
    """A document of the text format 0.0.4 as one of OpenMetrics."""
    lines = text.splitlines()
    metas = [match for line in lines if (match := _META.match(line))]
    kinds = {match[2]: match[3] for match in metas if match[1] == "TYPE"}
    written = []
    for line in lines:
        match = _META.match(line)
        if match is None:
            written.append(line)
            continue
        word, named, rest = match.groups()
        counter = kinds.get(named) == "counter"
        name = named.removesuffix("_total") if counter else named
        if word == "HELP":
            rest = rest.replace('"', r"\"")
        elif counter and name == named:
            rest = "unknown"
        written.append(f"# {word} {name} {rest}")
    return "\n".join([*written, "# EOF", ""])
