"""`deviceplugin check`: what a configuration comes to on this node, and what documents say."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from deviceplugin.cli.look import look
from deviceplugin.cli.surroundings import surroundings
from deviceplugin.cli.verdicts import Document, only, refusals, verdicts, verdicts_text
from deviceplugin.config.config import Config
from deviceplugin.config.load import load
from deviceplugin.host import Host
from deviceplugin.resources.methods import absent_programs
from deviceplugin.resources.plan import sharing_of
from deviceplugin.runtime.logs import configure_logs


def node_remarks(config: Config, report: Mapping[str, Any]) -> Iterator[str]:
    """What is absent on this node and which rules come to nothing, one line each; `report` is
    that of `discover`. Nothing of it is an error: a fleet has one file."""
    for vendor in report["vendors"]:
        if vendor["error"] and vendor["name"] in (config.vendors or ()):
            yield f"vendors: {vendor['name']}: {vendor['error']}"
        yield from (f"{vendor['name']}: {note}" for note in vendor["notes"])
    yield from absent_programs(sharing_of(config.sections), Host(config.host_root), config.sections)
    yield from report.get("notices", ())
    for rule in report["unused_rules"]:
        yield f"{rule['rule']}: {rule['reason']}"
    for problem in report["problems"]:
        yield f"{problem['resource']} is not offered: {problem['reason']}"


def tell_documents(
    flags: Mapping[str, str | None], path: str, key: str | None, *, node: bool
) -> tuple[Document, Callable[[Document], str]]:
    """The verdicts on documents, and how a terminal shows them; with `node` expectations are held
    against this node."""
    report = None
    if node:
        configure_logs("error", "console")
        config, modules = load({**flags, "config": None})
        found = asyncio.run(look(config, modules))
        here = surroundings(Host(config.host_root), Host(Path("/")), found)
        report = {**found, "host": here}
    shown = verdicts(flags, path, report)
    return (shown if key is None else only(shown, key)), verdicts_text


def end_refused(shown: Document, *, allowed: bool) -> None:
    """End with status 2 where something is refused, unless that is `allowed`."""
    lines = [f"{one['key']}: {one['text']}" for one in refusals(shown)]
    for line in lines:
        click.echo(f"{'warning' if allowed else 'refused'}: {line}", err=True)
    if lines and not allowed:
        sys.exit(2)
