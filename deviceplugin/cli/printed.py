"""Commands that print what people or other programs take: a schema, roles, rules, a runtime's
configuration. None changes anything."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from deviceplugin.cli.frame import NAMED, format_option, parse_format, settings_options
from deviceplugin.cli.output import LOOK_FLAGS, load_here, rendered
from deviceplugin.config.config import Setting, parse_choice, parse_directory
from deviceplugin.config.load import load
from deviceplugin.config.origins import PREFIX
from deviceplugin.host import Host
from deviceplugin.runtime.logs import configure_logs

_release = click.option(
    "--release",
    metavar="1.N",
    default="",
    help="The Kubernetes release for which slices are shown. Default the newest that is known.",
)
COMPLETE = "_DEVICEPLUGIN_COMPLETE"
# Those of deviceplugin.cli.alerts.
RENDERED = (
    *("rules", "prometheusrule", "podmonitor", "service", "servicemonitor", "scrape"),
    *("gpu_overview", "gpu_details", "gpu_scheduler"),
)


@click.command(help="Print the JSON Schema of a configuration, for editors.")
@settings_options(("vendors",))
def schema(**flags: str | None) -> None:
    from deviceplugin.cli.describe import schema_document  # noqa: PLC0415  # not a part of `run`

    _, modules = load(flags)
    click.echo(json.dumps(schema_document(modules), indent=1))


@click.command(
    help="""Print what makes a shell complete commands and flags.

    \b
    bash:  source <(deviceplugin completion bash)
    zsh:   source <(deviceplugin completion zsh)
    fish:  deviceplugin completion fish | source
    """,
    short_help="Print what makes a shell complete commands and flags.",
)
@click.argument("shell")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    from click.shell_completion import (  # noqa: PLC0415  # not a part of `run`
        BashComplete,
        FishComplete,
        ZshComplete,
    )

    kinds = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    kind = kinds[parse_choice(Setting(shell, "SHELL"), tuple(kinds))]
    click.echo(kind(ctx.find_root().command, {}, "deviceplugin", COMPLETE).source())


@click.group(help="Print manifests that a configuration asks for.")
def render() -> None:
    pass


@render.command(help="Print the roles of security.access_control as ClusterRoles.")
@settings_options(("config", "allow_unsupported"))
def rbac(**flags: str | None) -> None:
    from deviceplugin.cli.access import rbac_text  # noqa: PLC0415  # not a part of `run`

    click.echo(rbac_text(load(flags)[0]), nl=False)


@render.command(
    help="""Print what holds who may ask for GPUs, for `kubectl apply -f -`.

    Of security.access_control.roles: roles, their bindings, and admission policies that refuse
    pods and claims that nobody may ask for. Of security.bypass: a policy that refuses pods that
    reach GPUs without asking for one.
    """,
    short_help="Print roles and admission policies that hold who may ask for GPUs.",
)
@settings_options(("config", "allow_unsupported"))
@click.option("--warn", is_flag=True, help="The policies warn and refuse nothing.")
def access(*, warn: bool, **flags: str | None) -> None:
    from deviceplugin.cli.access import access_text  # noqa: PLC0415  # not a part of `run`

    click.echo(access_text(load(flags)[0], warn=warn), nl=False)


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
    short_help="Print alerting rules for Prometheus, or a dashboard.",
)
@settings_options(("config",))
@click.option(
    "--as",
    "what",
    metavar="NAME",
    default=RENDERED[0],
    help=f"What to print: {', '.join(RENDERED)}. Default rules.",
)
def render_alerts(what: str, config: str | None) -> None:
    from deviceplugin.cli.alerts import render as print_rules  # noqa: PLC0415  # not in `run`

    what = parse_choice(Setting(what, "--as"), RENDERED)
    found, _ = load({"config": config})
    print_rules(what, found.sections)


@click.group(help="Show what claims can have here (dynamic resource allocation).")
def dra() -> None:
    """Its commands ask the running daemon, else they look at the node."""


@dra.command(
    "slices",
    help="Show the ResourceSlices of this node, and which claims have what: as the running daemon"
    " has them, else, or with other flags than --state-dir, as they would be published.",
    short_help="Show the ResourceSlices of this node, and which claims have what.",
)
@settings_options((*LOOK_FLAGS, "state_dir"))
@_release
@format_option(NAMED)
def dra_slices(form: str | None, release: str, **flags: str | None) -> None:
    from deviceplugin.cli.dra import published, slices_text  # noqa: PLC0415  # not of `run`

    form = parse_format(form, NAMED)
    click.echo(rendered(_slices(flags, release), form, slices_text, published), nl=False)


@dra.command(
    "match",
    help="Show which devices of this node a CEL selector of a claim or a DeviceClass takes. Ends"
    " with status 1 where it ends with an error on one: nothing is allocated then.",
    short_help="Show which devices a CEL selector takes.",
)
@click.argument("expression")
@settings_options((*LOOK_FLAGS, "state_dir"))
@_release
@format_option(NAMED)
def dra_match(expression: str, form: str | None, release: str, **flags: str | None) -> None:
    from deviceplugin.cli.dra import (  # noqa: PLC0415  # as above
        has_errors,
        match_text,
        matched,
        taken,
    )

    form = parse_format(form, NAMED)
    document = matched(_slices(flags, release), expression)
    click.echo(rendered(document, form, match_text, taken), nl=False)
    if has_errors(document):
        sys.exit(1)


def _slices(flags: Mapping[str, str | None], release: str) -> dict[str, Any]:
    from deviceplugin.cli.ask import view  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.dra import look_dra  # noqa: PLC0415
    from deviceplugin.dra.report import minor_of  # noqa: PLC0415

    minor = minor_of(release)
    document = view(flags, {"operation": "dra", "release": release})
    if document is None:
        config, modules = load_here(flags)
        configure_logs("error", "console")
        document = asyncio.run(look_dra(config, modules, minor))
    return document


PRINTED = (schema, render, runtime, alerts, dra, completion)
