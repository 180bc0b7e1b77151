"""The commands by which an operator talks to the running daemon; a part of the command line."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from deviceplugin.cli.frame import settings_options

_common = settings_options(("state_dir", "config"))
Answer = dict[str, Any]
Ask = Callable[[str | None, str | None, dict[str, str]], Answer]


def operator_commands(ask: Ask) -> Sequence[click.Command]:
    """The commands; `ask` sends a request to the daemon of a state directory or configuration."""
    return (_cordon(ask), _uncordon(ask), _health(ask))


def _cordon(ask: Ask) -> click.Command:
    @click.command(
        "cordon",
        help="Mark DEVICE (an id, or a GPU's PCI address) Unhealthy until it is uncordoned.",
    )
    @click.argument("device")
    @click.option("--reason", metavar="TEXT", required=True, help="Why; shown with the device.")
    @_common
    def cordon(device: str, reason: str, state_dir: str | None, config: str | None) -> None:
        request = {"operation": "cordon", "device": device, "reason": reason}
        click.echo(f"{ask(state_dir, config, request)['device']} cordoned")

    return cordon


def _uncordon(ask: Ask) -> click.Command:
    @click.command(
        "uncordon", help="End the cordon of DEVICE; it becomes Healthy if it has no other fault."
    )
    @click.argument("device")
    @click.option(
        "--forget-faults", is_flag=True, help="Also forget its remembered faults: it is repaired."
    )
    @_common
    def uncordon(
        device: str, *, forget_faults: bool, state_dir: str | None, config: str | None
    ) -> None:
        if forget_faults:
            ask(state_dir, config, {"operation": "forget", "device": device})
        request = {"operation": "uncordon", "device": device}
        click.echo(f"{ask(state_dir, config, request)['device']} uncordoned")

    return uncordon


def _health(ask: Ask) -> click.Command:
    @click.command(
        "health", help="Show every device, its faults, since when they exist, and what clears them."
    )
    @click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
    @_common
    def health(form: str, state_dir: str | None, config: str | None) -> None:
        answer = ask(state_dir, config, {"operation": "health"})
        text = json.dumps(answer, indent=2) if form == "json" else health_text(answer)
        click.echo(text)

    return health


def health_text(answer: Answer) -> str:
    """The answer for people's terminals."""
    from deviceplugin.runtime.tables import table  # noqa: PLC0415  # not a part of `run`

    rows = [
        (("  " if d["parent"] else "") + d["id"], d["product"] or "-", d["condition"])
        for d in answer["devices"]
    ]
    blocks = [table(("DEVICE", "PRODUCT", "CONDITION"), rows)]
    blocks += [f"{v['name']}: {v['error']}" for v in answer["vendors"] if v["error"]]
    told = [fault for device in answer["devices"] for fault in device["faults"]]
    faults = {(fault["device"], fault["source"], fault["code"]): fault for fault in told}
    return "\n\n".join([*blocks, *map(_fault_text, faults.values())])


def _fault_text(fault: Answer) -> str:
    since = fault["since"]
    when = "-" if since is None else datetime.fromtimestamp(since, UTC).strftime("%F %TZ")
    return (
        f"{fault['class']}: {fault['device']}: {fault['reason']}"
        f" ({fault['source']}/{fault['code']})\n"
        f"  since:      {when}\n"
        f"  do:         {fault['action']}\n"
        f"  cleared by: {fault['cleared_by']}"
    )
