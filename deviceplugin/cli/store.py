"""The options that say which store of metrics is asked and as whom, for the commands that ask."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.metrics.store import Access

F = TypeVar("F", bound=Callable[..., Any])
WHO = (
    click.option("--token-file", metavar="FILE", help="A bearer token; read at each request."),
    click.option("--ca-file", metavar="FILE", help="Whom to believe, instead of the system (PEM)."),
    click.option("--tenant", metavar="NAME", default="", help="Sent as X-Scope-OrgID."),
)


def who_options(command: F) -> F:
    """As whom a store is asked."""
    for option in reversed(WHO):
        command = option(command)
    return command


def access_of(address: str, flag: str, flags: Mapping[str, Any]) -> "Access":
    """The store at the address that `flag` gave; raises ConfigError."""
    from deviceplugin.metrics.store import Access  # noqa: PLC0415  # OpenSSL is not for `run`

    access = Access(
        address=address,
        token_file=file_of(flags, "token_file"),
        ca_file=file_of(flags, "ca_file"),
        tenant=flags["tenant"] or "",
        flag=flag,
    )
    access.parts()
    return access


def file_of(flags: Mapping[str, Any], name: str) -> Path | None:
    """The file that a flag names, None without the flag; raises ConfigError."""
    if flags[name] is None:
        return None
    path = Path(flags[name])
    try:
        path.read_bytes()
    except OSError as error:
        flag = f"--{name.replace('_', '-')}"
        raise ConfigError(flag, flags[name], "a file", reason=str(error)) from error
    return path
