"""The commands by which an operator talks to the running daemon; a part of the command line."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from deviceplugin.cli.frame import NAMED, format_option, parse_format, settings_options
from deviceplugin.runtime.control import NoDaemonError

_WITHOUT_DAEMON = "without a daemon `deviceplugin discover` shows this node's GPUs and their faults"
# A daemon's own flags find it, also those that do not matter here.
_ACCEPTED = "Accepted, as all flags of the daemon that is meant; no file is read."
F = TypeVar("F", bound=Callable[..., Any])
Answer = dict[str, Any]
Ask = Callable[[str | None, dict[str, str]], Answer]


def _common(command: F) -> F:
    command = click.option("--config", metavar="PATH", expose_value=False, help=_ACCEPTED)(command)
    return settings_options(("state_dir",))(command)


def operator_commands(ask: Ask) -> Sequence[click.Command]:
    """The commands; `ask` sends a request to the daemon of a state directory."""
    return (_cordon(ask), _uncordon(ask), _health(ask), _status(ask))


def _cordon(ask: Ask) -> click.Command:
    @click.command(
        "cordon",
        help="Mark DEVICE (id, or a GPU's PCI address or index) Unhealthy until it is uncordoned.",
    )
    @click.argument("device")
    @click.option("--reason", metavar="TEXT", required=True, help="Why; shown with the device.")
    @_common
    def cordon(device: str, reason: str, state_dir: str | None) -> None:
        request = {"operation": "cordon", "device": device, "reason": reason}
        click.echo(f"{ask(state_dir, request)['device']} cordoned")

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
    def uncordon(device: str, *, forget_faults: bool, state_dir: str | None) -> None:
        if forget_faults:
            ask(state_dir, {"operation": "forget", "device": device})
        request = {"operation": "uncordon", "device": device}
        click.echo(f"{ask(state_dir, request)['device']} uncordoned")

    return uncordon


def _health(ask: Ask) -> click.Command:
    @click.command(
        "health",
        help="Show every device, who holds it, its faults, and what clears them. "
        "Ends with status 1 while a device is Unhealthy.",
    )
    @format_option(NAMED)
    @click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")
    @_common
    def health(form: str | None, *, watch: bool, state_dir: str | None) -> None:
        from deviceplugin.cli.health import show_health  # noqa: PLC0415  # not a part of `run`

        shown = parse_format(form, NAMED)

        def answer() -> Answer:
            try:
                return ask(state_dir, {"operation": "health"})
            except NoDaemonError as error:
                raise NoDaemonError(f"{error}; {_WITHOUT_DAEMON}") from error

        if not show_health(answer, shown, watch=watch):
            sys.exit(1)

    return health


def _status(ask: Ask) -> click.Command:
    @click.command(
        "status",
        help="Show each GPU with its partitions: utilisation, memory, power, who holds it, faults"
        " and alerts, as the daemon's page does. Ends with status 1 while a device is Unhealthy.",
        short_help="Show what each GPU does, and for whom.",
    )
    @format_option(NAMED)
    @click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
    @_common
    def status(form: str | None, *, watch: bool, state_dir: str | None) -> None:
        from deviceplugin.cli.claims import claimed, claims_of  # noqa: PLC0415  # not of `run`
        from deviceplugin.cli.status import show_status, with_claims  # noqa: PLC0415

        shown = parse_format(form, NAMED)

        def answer() -> Answer:
            try:
                found = ask(state_dir, {"operation": "status"})
            except NoDaemonError as error:
                raise NoDaemonError(f"{error}; {_WITHOUT_DAEMON}") from error
            return with_claims(found, claimed(claims_of(state_dir)))

        if not show_status(answer, shown, watch=watch):
            sys.exit(1)

    return status
