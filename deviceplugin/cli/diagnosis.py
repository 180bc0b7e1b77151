"""The commands `diagnose` and `support-bundle`; what they do is imported when they run."""

import sys
from typing import Any

import click

from deviceplugin.cli.frame import (
    NAMED,
    format_option,
    parse_format,
    parse_number,
    settings_options,
)
from deviceplugin.cli.output import LOOK_FLAGS
from deviceplugin.errors import ConfigError

_PLACES = ("kubelet_dir", "cdi_dir", "state_dir", "trusted_dirs")
_FLAGS = (*LOOK_FLAGS, *_PLACES, "allow_unsupported")
_FORMATS = (*NAMED, "junit")


@click.command(
    help="""Check this node and its GPUs, without using a GPU or changing anything.

    Each check says what it found, what it expected, where it looked and what to do. Ends with
    status 1 where a check fails; a warning is none.

    With --active, memory, arithmetic and temperature of GPUs that nobody holds are tested instead,
    one GPU after the other, for half an hour each. The running daemon keeps each from pods
    meanwhile.
    """,
    short_help="Check this node and its GPUs, without using a GPU.",
)
@settings_options(_FLAGS)
@click.option(
    "--window", metavar="SECONDS", default="1", help="Between two measurements. Default 1."
)
@click.option("--active", is_flag=True, help="Use GPUs that nobody holds to test them.")
@click.option(
    "--device",
    "devices",
    metavar="ID",
    multiple=True,
    help="With --active: an id, a PCI address or an index; may be repeated. Default all.",
)
@click.option("--short", is_flag=True, help="With --active: 5 seconds for each test.")
@format_option(_FORMATS)
def diagnose(form: str | None, window: str, **flags: Any) -> None:
    form = parse_format(form, _FORMATS)
    active, devices, short = (flags.pop(name) for name in ("active", "devices", "short"))
    if active:
        from deviceplugin.cli.active import Asked, run_active  # noqa: PLC0415  # as below

        sys.exit(run_active(flags, Asked(devices=devices, short=short, form=form)))
    if devices or short:
        raise ConfigError("--device" if devices else "--short", "given", "used with --active")
    from deviceplugin.cli.diagnose import run_diagnose  # noqa: PLC0415  # not a part of `run`

    sys.exit(run_diagnose(flags, form, parse_number(window, "--window")))


@click.command(
    "support-bundle",
    help="""Write a diagnosis and what belongs to it into one archive that can be sent.

    Names of nodes, pods and namespaces, UUIDs, serial numbers and secrets are replaced. Look
    through it before you send it.
    """,
    short_help="Write a diagnosis without identities into one archive.",
)
@settings_options(_FLAGS)
@click.option(
    "--output",
    metavar="FILE",
    default="deviceplugin-support.tar.gz",
    help="The archive, a new file. Default deviceplugin-support.tar.gz.",
)
def support_bundle(output: str, **flags: str | None) -> None:
    from deviceplugin.cli.diagnose import run_bundle  # noqa: PLC0415  # not a part of `run`

    run_bundle(flags, output, 1.0)
    click.echo(f"{output} is written; look through it before you send it")


@click.command(
    help="""Test the GPUs of this container before its job starts, as an init container.

    Memory and arithmetic of all of them at once, by the CUDA driver. Ends with status 1 where a
    GPU is not fit or none can be tested, with one line of what to do, which the kubelet shows as
    the container's message.
    """,
    short_help="Test a pod's own GPUs before its job starts.",
)
@click.option("--seconds", metavar="NUMBER", default="20", help="For all of it. Default 20.")
@click.option(
    "--message",
    metavar="FILE",
    default="/dev/termination-log",
    help="Where the kubelet takes the line from, if it is there. Default /dev/termination-log.",
)
@format_option(_FORMATS)
def preflight(form: str | None, seconds: str, message: str) -> None:
    from deviceplugin.cli.preflight import run_preflight  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form, _FORMATS)
    sys.exit(run_preflight(parse_number(seconds, "--seconds"), form, message))


DIAGNOSIS = (diagnose, preflight, support_bundle)
