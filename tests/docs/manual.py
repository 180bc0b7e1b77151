"""The manual page deviceplugin(1), made from the commands."""

from collections.abc import Iterator

import click

from deviceplugin.cli import cli
from deviceplugin.cli.frame import EXIT_STATUS

SUMMARY = "one Kubernetes device plugin for every GPU of a node"
FILES = (
    ("/etc/deviceplugin", "where the DaemonSet mounts the configuration"),
    ("/var/lib/deviceplugin", "the daemon's state"),
    ("/var/lib/kubelet/device-plugins", "the kubelet's socket and ours"),
    ("/var/run/cdi", "CDI files"),
)


def manual() -> str:
    """The page in the macros of man(7), without a date: it changes only when a command does."""
    context = click.Context(cli, info_name="deviceplugin")
    lines = [
        '.TH DEVICEPLUGIN 1 "" "deviceplugin" "User Commands"',
        ".SH NAME",
        f"deviceplugin \\- {SUMMARY}",
        ".SH SYNOPSIS",
        ".B deviceplugin",
        ".I COMMAND",
        "[OPTIONS]",
        ".SH DESCRIPTION",
        *_text(cli.help or ""),
        ".SH COMMANDS",
        *(line for name, command in _commands(cli, context) for line in _described(name, command)),
        ".SH EXIT STATUS",
        ".nf",
        *map(_escaped, EXIT_STATUS.removeprefix("\b\nExit status:\n").rstrip().splitlines()),
        ".fi",
        ".SH ENVIRONMENT",
        *_text("Each option of `run` is also a variable: DEVICEPLUGIN_ and its name in capitals."),
        ".SH FILES",
        *(line for path, what in FILES for line in (".TP", f".I {_escaped(path)}", _escaped(what))),
    ]
    return "\n".join(lines) + "\n"


def _commands(
    group: click.Group, context: click.Context, before: str = ""
) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the names of its groups."""
    for name in group.list_commands(context):
        command = group.commands[name]
        runs = not isinstance(command, click.Group) or command.invoke_without_command
        if runs and not command.hidden:
            yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, context, f"{before}{name} ")


def _described(name: str, command: click.Command) -> Iterator[str]:
    arguments = [p.make_metavar(click.Context(command)) for p in command.params if _is_plain(p)]
    yield f".SS {_escaped(' '.join(['deviceplugin', name, *arguments]))}"
    yield from _text(command.help or command.short_help or "")
    context = click.Context(command)
    for option in command.params:
        record = option.get_help_record(context)
        if record is not None:
            yield from (".TP", f".B {_escaped(record[0])}", _escaped(" ".join(record[1].split())))


def _is_plain(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _text(text: str) -> Iterator[str]:
    """Paragraphs; one that begins with a backspace keeps its lines."""
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph.removeprefix("\b").strip("\n").splitlines()
            yield from (".nf", *map(_escaped, lines), ".fi")
        elif paragraph:
            yield from (".PP", _escaped(" ".join(paragraph.split())))


def _escaped(text: str) -> str:
    """Text of a line, in which nothing is a request to the formatter."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
