"""The command `scheduler explain`; what it asks and prints is in `decided`."""

import click

from deviceplugin.cli.frame import format_option, parse_format
from deviceplugin.cli.output import rendered

HERE = "127.0.0.1:8890"


@click.command(
    "explain",
    help="Show why NAMESPACE/POD was sent where it was, or why it fits nowhere: of all replicas of"
    " the extender that are asked, the latest decision.",
    short_help="Show why NAMESPACE/POD was sent where it was.",
)
@click.argument("pod", metavar="NAMESPACE/POD")
@click.option(
    "--address",
    "addresses",
    metavar="HOST:PORT",
    multiple=True,
    help=f"Of the extender, or a URL; may be given again. All that a name stands for are asked."
    f" Default {HERE}.",
)
@click.option("--ca-file", metavar="FILE", help="Ask by HTTPS and believe this authority (PEM).")
@click.option("--token-file", metavar="FILE", help="A bearer token, for a proxy that wants one.")
@click.option(
    "--kubeconfig",
    metavar="FILE",
    help="Ask all replicas through the API server of this file, instead of by address.",
)
@click.option(
    "--namespace", metavar="NAME", help="Of the replicas, with --kubeconfig. Default kube-system."
)
@format_option()
def explain(pod: str, addresses: tuple[str, ...], form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli import decided  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form)
    replicas = decided.replicas(pod, addresses or (HERE,), flags, given=bool(addresses))
    why = decided.latest(pod, replicas, lambda line: click.echo(line, err=True))
    click.echo(rendered(why, form, decided.as_text), nl=False)
