"""The command `health`: every device, who holds it, what is wrong with it and what to do."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from deviceplugin.cli.output import rendered
from deviceplugin.cli.tables import blocks_of, problem_lines, vendor_notes
from deviceplugin.runtime.tables import table

Answer = dict[str, Any]
WATCH_S = 2.0
MAX_NAMED = 12  # devices of one fault; the table above has them all
_COLOURS: Mapping[str, Mapping[str, Any]] = {
    "healthy": {"fg": "green"},
    "suspect": {"fg": "yellow"},
    "recovering": {"fg": "yellow"},
    "unhealthy": {"fg": "red", "bold": True},
    "gone": {"fg": "red", "bold": True},
}
_CONDITION = re.compile(rf"(?<=  )({'|'.join(_COLOURS)})(?=  |$)", re.MULTILINE)
_ADVICE = re.compile(r"^  (do|held by): ", re.MULTILINE)


def show_health(
    answer: Callable[[], Answer], form: str, *, watch: bool, wait_s: float = WATCH_S
) -> bool:
    """Show what `answer` gives, with `watch` until Ctrl-C, asked every `wait_s` seconds; whether
    every device can be used."""
    if watch:
        _watch(answer, form, wait_s)
    found = answer()
    click.echo(_rendered(found, form))
    return not is_unhealthy(found)


def is_unhealthy(answer: Answer) -> bool:
    """Whether a device cannot be used."""
    return any(device["health"] == "Unhealthy" for device in answer["devices"])


def _watch(answer: Callable[[], Answer], form: str, wait_s: float) -> None:
    """Until Ctrl-C, or until no daemon answers."""
    shown = ""
    while True:
        text = _rendered(answer(), form)
        if text != shown:
            if sys.stdout.isatty():
                click.clear()
            click.echo(text if sys.stdout.isatty() else f"{text}\n")
        shown = text
        time.sleep(wait_s)


def _rendered(answer: Answer, form: str) -> str:
    if form != "table":
        return rendered(answer, form, named="devices").removesuffix("\n")
    text = health_text(answer)
    return in_colour(text) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def in_colour(text: str) -> str:
    """The text with conditions in colours and the words of advice in bold."""
    text = _CONDITION.sub(lambda m: click.style(m[0], **_COLOURS[m[0]]), text)
    return _ADVICE.sub(lambda m: click.style(m[0], bold=True), text)


def health_text(answer: Answer) -> str:
    """The answer for people's terminals."""
    devices = sorted(
        answer["devices"], key=lambda d: (d["parent"] or d["id"], bool(d["parent"]), d["id"])
    )
    parts = [*answer.get("notices", ())]
    if devices:
        head = ("DEVICE", "PRODUCT", "PCI", "RESOURCE", "CONDITION", "HELD BY")
        parts.append(table(head, [_row(device) for device in devices]))
    parts += _vendor_lines(answer, devices)
    parts += [_fault_text(faults, devices) for faults in blocks_of(devices)]
    parts += [*problem_lines(answer), *_kept_lines(answer), *vendor_notes(answer)]
    return "\n\n".join(parts)


def _kept_lines(answer: Answer) -> Iterator[str]:
    """Why a node's capacity is more than its devices, where no fault says it."""
    lines = [f"{k['resource']}: {k['ids']} not allocatable: {k['reason']}" for k in _kept(answer)]
    if lines:
        yield "\n".join(lines)


def _kept(answer: Answer) -> Sequence[Answer]:
    kept: Sequence[Answer] = answer.get("kept", ())
    return kept


def _row(device: Answer) -> tuple[str, ...]:
    """A part has its profile where its whole has product and address."""
    part = device["parent"] is not None
    return (
        ("  " if part else "") + device["id"],
        (device["profile"] if part and device["profile"] else device["product"]) or "-",
        (None if part else device["pci_address"]) or "-",
        ", ".join(device.get("resources", ())) or "-",
        device["condition"],
        ", ".join(_pods([device])) or "-",
    )


def _pods(devices: Sequence[Answer]) -> list[str]:
    holders = (holder for device in devices for holder in device.get("held_by", ()))
    return sorted({f"{holder['namespace']}/{holder['pod']}" for holder in holders})


def _vendor_lines(answer: Answer, devices: Sequence[Answer]) -> Iterator[str]:
    """Vendors that do not serve: those of which there are devices first; of a reason that stands
    with the faults, nothing."""
    having = {device.get("vendor") for device in devices}
    reasons = {fault["reason"] for device in devices for fault in device["faults"]}
    silent = [v for v in answer["vendors"] if v["error"] and v["error"] not in reasons]
    for vendor in silent:
        if vendor["name"] in having or not devices:
            yield f"{vendor['name']}: {vendor['error']}"
    without = [f"{v['name']} ({v['error']})" for v in silent if v["name"] not in having]
    if without and devices:
        yield f"without devices: {', '.join(without)}"


def _fault_text(faults: Sequence[Answer], devices: Sequence[Answer]) -> str:
    fault, ids = faults[0], list(dict.fromkeys(fault["device"] for fault in faults))
    since = min((f["since"] for f in faults if f["since"] is not None), default=None)
    when = "-" if since is None else datetime.fromtimestamp(since, UTC).strftime("%F %TZ")
    cleared = fault["cleared_by"] if len(ids) == 1 else fault["cleared_by"].replace(ids[0], "ID")
    action = fault["action"] if len(ids) == 1 else fault["action"].replace(ids[0], "ID")
    hit = [device for device in devices if device["id"] in ids or device["parent"] in ids]
    lines = [
        f"{fault['class']}: {_named(ids)}: {fault['reason']} ({fault['source']}/{fault['code']})",
        *(f"  {text}" for text in _held_lines(hit) if fault["class"] in _WITHDRAWING),
        f"  since:      {when}",
        f"  do:         {action}",
        f"  cleared by: {cleared}",
    ]
    return "\n".join(lines)


_WITHDRAWING = ("setup", "reset", "reboot", "hardware")


def _held_lines(devices: Sequence[Answer]) -> Iterator[str]:
    if pods := _pods(devices):
        yield f"held by:    {', '.join(pods)}"


def _named(ids: Sequence[str]) -> str:
    if len(ids) == 1:
        return ids[0]
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return f"{len(ids)} devices ({', '.join(ids[:MAX_NAMED])}{more})"
