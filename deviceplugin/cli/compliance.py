"""The command `compliance`; what it does is imported when it runs."""

import sys

import click

from deviceplugin.cli.frame import format_option, parse_format, settings_options
from deviceplugin.cli.output import LOOK_FLAGS

_PLACES = ("kubelet_dir", "cdi_dir", "state_dir", "trusted_dirs", "metrics_address")
_FLAGS = (*LOOK_FLAGS, *_PLACES, "allow_unsupported")
_FORMATS = ("json", "html", "pdf")
NAMES = ("soc2", "iso27001", "gdpr", "hipaa")


@click.group(
    "compliance",
    help="Reports for auditors: what this node can evidence of the controls of a standard.",
    short_help="Report what this node can evidence of a standard.",
)
def compliance_commands() -> None:
    """Its only command has all forms."""


@compliance_commands.command(
    help="""Report what this node can evidence of each control of a standard, and what it cannot.

    Ends with status 1 where something violates a control.
    """,
    short_help="Report what this node can evidence of a standard.",
)
@settings_options(_FLAGS)
@click.option("--standard", metavar=f"[{'|'.join(NAMES)}]", help="The standard.")
@click.option(
    "--since", metavar="TIME", default="", help="Count records from here on. Default the interval."
)
@click.option("--to", "path", metavar="FILE", help="A new file instead of the standard output.")
@click.option(
    "--directory",
    metavar="DIR",
    help="Instead: a file of each of the configuration's standards, in its format and as JSON.",
)
@format_option(_FORMATS)
def report(
    standard: str | None,
    since: str,
    path: str | None,
    directory: str | None,
    form: str | None,
    **flags: str | None,
) -> None:
    from deviceplugin.cli.auditor import Asked, run_report  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form, _FORMATS) if form or not directory else None
    asked = Asked(standard=standard, since=since, form=form, path=path, directory=directory)
    sys.exit(run_report(flags, asked))
