"""The command line's frame: groups of commands, options that several have, and how errors end."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import click

from deviceplugin.config.config import Setting, parse_choice
from deviceplugin.config.origins import PREFIX
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.run import FLAGS, lines_of, status_of

F = TypeVar("F", bound=Callable[..., Any])
_GROUPS = (
    ("The daemon", ("run", "check", "alerts", "schema", "render")),
    ("This node", ("discover", "vendors", "explain", "health", "status", "dra")),
    ("Its setup", ("runtime", "provision")),
    ("Diagnosis", ("diagnose", "preflight", "support-bundle", "profile")),
    ("Operators", ("cordon", "uncordon", "audit", "compliance")),
    ("The cluster", ("scheduler", "simulate", "fleet", "maintenance")),
    ("To try it", ("demo",)),
    ("Your shell", ("completion",)),
)
EXIT_STATUS = """\b
Exit status:
  0    done
  1    the daemon or the node refuses; `health` and `status`: a device is
       Unhealthy; `runtime --check`: a difference;
       `diagnose`: a check fails; `preflight`: a GPU is not fit;
       `fleet budget`: one is not within;
       `maintenance show`: a finding is certain;
       `compliance report`: a violation
  2    a flag, a variable or the configuration is wrong
  130  interrupted
"""
_HELP = {
    "config": ("PATH", "A YAML file, or a directory of YAML files."),
    "node_name": ("NAME", "Name of this Kubernetes node; by default the host name."),
    "vendors": ("LIST", "Vendors to serve, comma-separated; by default all installed ones."),
    "host_root": ("DIR", "Where this process finds the host's /sys, /proc and /dev. Default /."),
    "kubelet_dir": ("DIR", "The kubelet's directory. Default /var/lib/kubelet."),
    "cdi_dir": ("DIR", "Directory for CDI files. Default /var/run/cdi."),
    "state_dir": ("DIR", "Directory for the daemon's state. Default /var/lib/deviceplugin."),
    "trusted_dirs": (
        "LIST",
        "Folders of the host from which the configuration may also name a driver's files.",
    ),
    "metrics_address": (
        "HOST:PORT",
        "Address of /metrics, /healthz and /readyz; empty disables them.",
    ),
    "expose_pods": ("", "Name pods on the page and in metrics, whoever reads them."),
    "log_level": ("[debug|info|warning|error]", "What is logged. Default info."),
    "log_format": ("[json|console]", "How it is logged. Default json."),
    "allow_unsupported": (
        "",
        "Take a configuration that asks for what cannot be done; it is told, not refused.",
    ),
}
DAEMON_FLAGS = FLAGS
FORMATS = ("table", "json", "yaml")
NAMED = (*FORMATS, "name")
# A group without a command: click calls it an error, since 8.2.
_HELP_ASKED: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
# What people type by habit, and what does it here.
_HABITS = {
    "--json": "write --format json",
    "--yaml": "write --format yaml",
    "-f": "write --config",
    "--verbose": "write --log-level debug (run)",
    "-v": "write --log-level debug (run), or --version",
}


class Commands(click.Group):
    """Commands in groups, in the order in which they are needed."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group; a command of no group stands in the last one."""
        grouped = {name for _, names in _GROUPS for name in names}
        others = sorted(self.commands.keys() - grouped)
        for title, names in (*_GROUPS, ("Others", others)):
            rows = [(n, _short(self.commands[n])) for n in names if n in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _short(command: click.Command) -> str:
    """A whole sentence: cut off it says nothing."""
    text = command.short_help or (command.help or "").partition(".")[0]
    return " ".join(text.split()).rstrip(".")


def settings_options(names: Iterable[str]) -> Callable[[F], F]:
    """The options `names`, each as text: their meaning is checked in one place for all origins."""

    def decorate(command: F) -> F:
        for name in reversed(list(names)):
            flag = f"--{name.replace('_', '-')}"
            metavar, text = _HELP[name]
            switch = {"is_flag": True, "flag_value": "true", "default": None}
            kind: dict[str, Any] = {"metavar": metavar} if metavar else switch
            command = click.option(flag, name, help=text, **kind)(command)
        return command

    return decorate


def format_option(formats: Iterable[str] = FORMATS) -> Callable[[F], F]:
    """The option `--format`, kubectl's `-o`, alike in every command; `parse_format` reads it."""
    names = tuple(formats)

    def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return click.option(
        *("--format", "--output", "-o", "form"),
        metavar=f"[{'|'.join(names)}]",
        help=f"How to print it. Default {names[0]}.",
        shell_complete=completed,
    )


def parse_format(given: str | None, formats: tuple[str, ...] = FORMATS) -> str:
    """The format of the flag, of DEVICEPLUGIN_FORMAT, or the first one; raises ConfigError.

    A variable is for all commands, so one that a command does not have is its default.
    """
    if given is not None:
        return parse_choice(Setting(given, "--format"), formats)
    variable = f"{PREFIX}FORMAT"
    asked = parse_choice(Setting(os.environ.get(variable, FORMATS[0]), variable), FORMATS)
    return asked if asked in formats else formats[0]


def parse_number(text: str, flag: str) -> int:
    """A whole number from 0; raises ConfigError."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(flag, text, "a whole number from 0")
    return int(text)


def end_in_words(command: Callable[[], object]) -> None:
    """Run the command line: status 2, and one line for each thing that the person got wrong."""
    try:
        command()
    except DevicePluginError as error:
        _end(lines_of(error), status_of(error))
    except _HELP_ASKED as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        _end([" ".join(f"{error.format_message()} {_advice(error)}".split())])
    except click.exceptions.Abort:
        sys.exit(130)


def _advice(error: click.ClickException) -> str:
    if not isinstance(error, click.UsageError):
        return ""
    where = error.ctx.command_path if error.ctx else "deviceplugin"
    hint = _habit(error.option_name) if isinstance(error, click.NoSuchOption) else None
    return f"({hint or f'see `{where} --help`'})"


def _habit(option: str) -> str | None:
    from deviceplugin.config.hints import hint_of  # noqa: PLC0415  # not a part of `run`

    return _HABITS.get(option) or hint_of(option.lstrip("-"))


def _end(lines: Iterable[str], status: int = 2) -> NoReturn:
    for line in lines:
        click.echo(f"deviceplugin: {line}", err=True)
    sys.exit(status)
