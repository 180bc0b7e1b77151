"""How commands ask the running daemon, and what they say when none answers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from deviceplugin.config.config import Config
from deviceplugin.config.last_good import state_dir_of
from deviceplugin.config.origins import PREFIX
from deviceplugin.runtime.control import FILE, ControlError, NoDaemonError, ask_daemon

Answer = dict[str, Any]
# With one of these a command is asked about something else than what the daemon serves.
OWN_LOOK = ("config", "node_name", "vendors", "host_root")


def ask(state_dir: str | None, request: Mapping[str, str]) -> Answer:
    """The answer of the daemon of that state directory; raises ControlError."""
    return ask_daemon(state_dir_of({"state_dir": state_dir}), request)


def view(flags: Mapping[str, str | None], request: Mapping[str, str]) -> Answer | None:
    """The running daemon's view; None, said on standard error, where the command must look at the
    node itself.

    Raises ConfigError where the daemon refuses the question.
    """
    own = [f"--{name.replace('_', '-')}" for name in OWN_LOOK if flags.get(name) is not None]
    if own:
        _say_own(flags.get("state_dir"), own)
        return None
    try:
        return ask(flags.get("state_dir"), request)
    except NoDaemonError as error:
        click.echo(f"{error}: this is what the node shows now", err=True)
        return None
    except ControlError as error:
        if "unknown operation" not in str(error) and "may not do this" not in str(error):
            raise click.ClickException(str(error)) from error
        text = f"the daemon does not answer this ({error}): this is what the node shows now"
        click.echo(text, err=True)
        return None


def _say_own(state_dir: str | None, flags: list[str]) -> None:
    """Only where a daemon runs: it may see the node in another way."""
    path = Path(state_dir or os.environ.get(f"{PREFIX}STATE_DIR") or Config(node_name="").state_dir)
    if (path / FILE).exists():
        text = f"by {', '.join(flags)} the node itself is looked at; without, the running daemon is"
        click.echo(f"{text} asked", err=True)
