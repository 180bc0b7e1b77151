"""The command `status`: the page in a terminal, in colours where the package rich is installed."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import click

from deviceplugin.cli.output import rendered
from deviceplugin.page.words import ABSENT, celsius, count, listed, percent, size, watts
from deviceplugin.runtime.tables import table

Answer = dict[str, Any]
WATCH_S = 2.0
BAR = 10
_HEAD = ("GPU", "PRODUCT", "CONDITION", "UTILISATION", "MEMORY", "POWER", "TEMP", "HELD BY")
_COLOURS: Mapping[str, str] = {
    "healthy": "green",
    "suspect": "yellow",
    "recovering": "yellow",
    "unhealthy": "bold red",
    "warning": "yellow",
    "critical": "bold red",
}


def show_status(
    answer: Callable[[], Answer], form: str, *, watch: bool, wait_s: float = WATCH_S
) -> bool:
    """Show what `answer` gives, with `watch` until Ctrl-C; whether all devices are healthy."""
    found = answer()
    while watch:
        if sys.stdout.isatty():
            click.clear()
        _print(found, form)
        time.sleep(wait_s)
        found = answer()
    _print(found, form)
    return all(device["health"] == "Healthy" for device in _all(found))


def _print(found: Answer, form: str) -> None:
    if form != "table":
        click.echo(rendered(found, form, named="devices"), nl=False)
    elif sys.stdout.isatty() and not os.environ.get("NO_COLOR") and find_spec("rich"):
        _print_rich(found)
    else:
        click.echo(status_text(found))


def _print_rich(found: Answer) -> None:
    from rich.console import Console  # noqa: PLC0415  # an extra, for terminals alone
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(Text(_title(found), style="bold"))
    shown = Table(*_HEAD, box=None, pad_edge=False)
    for row in _rows(found):
        shown.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console.print(shown)
    for line in _lines(found):
        console.print(Text(line, style=_COLOURS.get(line.partition(":")[0], "")))


def status_text(found: Answer) -> str:
    """The document for any terminal."""
    rows = list(_rows(found))
    drawn = table(_HEAD, rows) if rows else "No GPU was found on this node."
    return "\n".join((_title(found), "", drawn, *_lines(found)))


def _title(found: Answer) -> str:
    ill = sum(device["condition"] != "healthy" for device in found["devices"])
    state = f"{ill} not healthy" if ill else "all healthy"
    shown = f", {state}" if found["devices"] else ""
    return f"{found['node']}: {count(len(found['devices']), 'GPU')}{shown}"


def _all(found: Answer) -> Iterator[Answer]:
    for device in found["devices"]:
        yield device
        yield from device["partitions"]


def with_claims(found: Answer, holders: Mapping[str, str]) -> Answer:
    """The document with the claims that hold devices, by their ids."""
    for device in _all(found):
        if device["id"] in holders:
            device["claims"] = holders[device["id"]]
    return found


def _rows(found: Answer) -> Iterator[tuple[str, ...]]:
    for device in found["devices"]:
        index = ABSENT if device["index"] is None else str(device["index"])
        yield _row(device, index, device["product"] or device["vendor"])
        for part in device["partitions"]:
            yield _row(part, "", f"  {part['profile'] or 'partition'}")


def _row(device: Answer, index: str, name: str) -> tuple[str, ...]:
    found = device["measured"] or {}
    used, power = found.get("memory_used_bytes"), found.get("power_watts")
    memory = size(device["memory_bytes"])
    return (
        index,
        name,
        device["condition"] if found.get("up", True) else "lost",
        bar(found.get("utilization_ratio")),
        memory if used is None else f"{size(used)} of {memory}",
        watts(power, found.get("power_limit_watts")),
        celsius(found.get("temperature_celsius")),
        _who(device),
    )


def bar(ratio: float | None) -> str:
    """A bar and its number; nothing is drawn of what is not known."""
    if ratio is None:
        return ABSENT
    filled = round(BAR * min(max(ratio, 0.0), 1.0))
    return f"{'█' * filled}{'░' * (BAR - filled)} {percent(ratio)}"


def _who(device: Answer) -> str:
    if device.get("claims"):
        return f"claim {device['claims']}"
    if device["held_by"] is None:
        return count(device["held"], "container") if device["held"] else ABSENT
    return listed(sorted({f"{h['namespace']}/{h['pod']}" for h in device["held_by"]})) or ABSENT


def _lines(found: Answer) -> Iterator[str]:
    yield from _alerts(found["alerts"])
    for fault in found["faults"]:
        yield ""
        yield f"{fault['class']}: {fault['device']}: {fault['reason']}"
        if fault["action"]:
            yield f"  do: {fault['action']}"
    yield from (f"\n{notice}" for notice in found["notices"])


def _alerts(alerts: Sequence[Answer]) -> Iterator[str]:
    for alert in alerts:
        yield ""
        what = f"{alert['name']} ({alert['state']}) on {alert['device']}"
        yield f"{alert['severity']}: {what}: {alert['condition']}, now {alert['value']}"
