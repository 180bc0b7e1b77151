"""The command `profile`; what it does is imported when it runs."""

import click

from deviceplugin.cli.frame import format_option, parse_format, parse_number, settings_options
from deviceplugin.cli.output import LOOK_FLAGS, rendered


@click.command(
    help="""Show what the GPUs of POD (NAME or NAMESPACE/NAME) did in the last seconds.

    The running daemon answers from what it has measured, with the section `profiling`; no profiler
    runs and nothing is measured anew. With --tools: which profilers are on this node, what they
    need, and whether it is so.
    """,
    short_help="Show what the GPUs of a pod did, or which profilers may be used.",
)
@click.argument("pod", required=False)
@click.option("--seconds", metavar="NUMBER", default="30", help="How far back. Default 30.")
@click.option("--tools", is_flag=True, help="Show profilers and what they need.")
@settings_options((*LOOK_FLAGS, "state_dir", "allow_unsupported"))
@format_option()
def profile(
    pod: str | None, seconds: str, form: str | None, *, tools: bool, **flags: str | None
) -> None:
    from deviceplugin.cli.profile import (  # noqa: PLC0415  # not a part of `run`
        look_for_tools,
        profile_text,
        tools_text,
    )

    form = parse_format(form)
    if tools == bool(pod):
        raise click.UsageError("write a pod, or --tools")
    if tools:
        flags.pop("state_dir")
        click.echo(rendered(look_for_tools(flags), form, tools_text), nl=False)
        return
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # as above

    back = str(parse_number(seconds, "--seconds"))
    asked = {"operation": "profile", "pod": str(pod), "seconds": back}
    click.echo(rendered(ask(flags["state_dir"], asked), form, profile_text), nl=False)
