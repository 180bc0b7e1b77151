"""What `deviceplugin profile` prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.cli.output import load_here
from deviceplugin.host import Host
from deviceplugin.profiling.section import wanted
from deviceplugin.profiling.tools import tools_document
from deviceplugin.runtime.tables import table

Document = dict[str, Any]
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def look_for_tools(flags: Mapping[str, str | None]) -> Document:
    """The tools of the configuration's section, or all."""
    config, _ = load_here(flags)
    section = wanted(config.sections)
    return tools_document(Host(config.host_root), Host(), section.tools if section else ())


def tools_text(document: Document) -> str:
    """Tools, then what they need."""
    tools = [
        (
            one["name"],
            one["path"] or "-",
            _ALLOWED[one["allowed"]],
            ", ".join(one["lacks"] or one["needs"]) or "-",
        )
        for one in document["tools"]
    ]
    needs = [
        (one["name"], _ALLOWED[one["met"]], one["value"], "" if one["met"] else one["remedy"])
        for one in document["conditions"]
    ]
    text = f"{table(('TOOL', 'ON THE NODE', 'ALLOWED', 'NEEDS'), tools)}\n\n"
    text += f"{table(('CONDITION', 'MET', 'VALUE', 'OTHERWISE'), needs)}\n"
    if document["unknown"]:
        text += f"not known: {', '.join(document['unknown'])}\n"
    searched = ", ".join(document["searched"]) or "no folder of the host is seen"
    return f"{text}searched: {searched}; images bring tools of their own\n"


_ALLOWED = {True: "yes", False: "no", None: "unknown"}


def profile_text(document: Document) -> str:
    """A row for each container and GPU, and why a figure is missing."""
    head = ("CONTAINER", "DEVICE", *(_head(name) for name in _names(document)))
    rows = [
        (
            f"{one['namespace']}/{one['pod']}/{one['container']}",
            one["device"],
            *(_cell(one["metrics"][name]) for name in _names(document)),
        )
        for one in document["containers"]
    ]
    notes = [*_shared(document["containers"]), *_reasons(document["containers"])]
    rounds = f"{document['rounds']} rounds, {document['window_s']:g} s\n"
    return "\n".join((table(head, rows), *notes, rounds))


def _names(document: Document) -> Sequence[str]:
    return list(document["containers"][0]["metrics"])


def _head(name: str) -> str:
    return name.replace("_", " ").upper()


def _cell(summary: Mapping[str, Any]) -> str:
    if "total" in summary:
        return f"{summary['total']:.2f} s"
    if "mean" not in summary:
        return "-"
    if summary["unit"] == "ratio":
        return f"{summary['mean']:.0%} ({summary['low']:.0%} to {summary['high']:.0%})"
    return f"{_short(summary['mean'])}B/s"


def _short(value: float) -> str:
    factor, letter = next(((f, s) for f, s in _SCALES if value >= f), (1.0, ""))
    return f"{value / factor:.1f} {letter}"


def _shared(containers: Sequence[Document]) -> Iterator[str]:
    for one in containers:
        if one["shared_with"]:
            others = f"{one['shared_with']} other containers"
            yield f"{one['device']}: shared with {others}, the figures are of all together"


def _reasons(containers: Sequence[Document]) -> Iterator[str]:
    found = {
        f"{name}: {summary['reason']}"
        for one in containers
        for name, summary in one["metrics"].items()
        if "reason" in summary
    }
    yield from sorted(found)
