"""Commands that print what people or other programs take: a schema, roles, rules, a runtime's
configuration. None changes anything."""

import json
import os
import sys

import click

from deviceplugin.cli.frame import settings_options
from deviceplugin.config.config import Setting, parse_choice, parse_directory
from deviceplugin.config.load import load
from deviceplugin.config.origins import PREFIX
from deviceplugin.host import Host

# Those of deviceplugin.cli.alerts.
RENDERED = (
    *("rules", "prometheusrule", "podmonitor", "service", "servicemonitor", "scrape"),
    *("gpu_overview", "gpu_details"),
)


@click.command(help="Print the JSON Schema of a configuration, for editors.")
@settings_options(("vendors",))
def schema(**flags: str | None) -> None:
    from deviceplugin.cli.describe import schema_document  # noqa: PLC0415  # not a part of `run`

    _, modules = load(flags)
    click.echo(json.dumps(schema_document(modules), indent=1))


@click.group(help="Print manifests that a configuration asks for.")
def render() -> None:
    pass


@render.command(help="Print the roles of security.access_control as ClusterRoles.")
@settings_options(("config", "allow_unsupported"))
def rbac(**flags: str | None) -> None:
    from deviceplugin.cli.describe import rbac_text  # noqa: PLC0415  # not a part of `run`

    click.echo(rbac_text(load(flags)[0]), nl=False)


@click.command(
    help="Print what RUNTIME (containerd, crio or docker) needs in its configuration, for the"
    " version that is installed; nothing is written.",
    short_help="Print what a container runtime must be configured for.",
)
@settings_options(("host_root",))
@click.argument("runtime")
@click.option("--check", "compare", is_flag=True, help="Compare it with what is configured.")
def runtime(runtime: str, host_root: str | None, *, compare: bool) -> None:
    from deviceplugin.cli import runtime as runtimes  # noqa: PLC0415  # not a part of `run`

    name = parse_choice(Setting(runtime, "RUNTIME"), tuple(runtimes.NAMES))
    root = parse_directory(
        Setting(host_root or os.environ.get(f"{PREFIX}HOST_ROOT", "/"), "--host-root")
    )
    told = runtimes.advice(Host(root), name)
    if not compare:
        click.echo(runtimes.rendered(told), nl=False)
        return
    lines = runtimes.differences(told)
    for line in lines:
        click.echo(line)
    click.echo(f"{name}: {len(lines)} differences" if lines else f"{name} is configured", err=True)
    if lines:
        sys.exit(1)


@click.group(help="Alerts and dashboards of the section `monitoring`, for other programs.")
def alerts() -> None:
    """Its only command has all forms."""


@alerts.command(
    "render",
    help="Print alerting rules for Prometheus, the default ones and those of the configuration, or"
    " a dashboard for Grafana.",
)
@settings_options(("config",))
@click.option(
    "--as",
    "what",
    metavar=f"[{'|'.join(RENDERED)}]",
    default=RENDERED[0],
    help="What to print. Default rules.",
)
def render_alerts(what: str, config: str | None) -> None:
    from deviceplugin.cli.alerts import render as print_rules  # noqa: PLC0415  # not in `run`

    what = parse_choice(Setting(what, "--as"), RENDERED)
    found, _ = load({"config": config})
    print_rules(what, found.sections)


PRINTED = (schema, render, runtime, alerts)
