"""The command line: the only reader of argv."""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from deviceplugin.cli.audit import audit_commands
from deviceplugin.cli.compliance import compliance_commands
from deviceplugin.cli.diagnosis import DIAGNOSIS
from deviceplugin.cli.fleet import fleet_commands
from deviceplugin.cli.frame import (
    DAEMON_FLAGS,
    EXIT_STATUS,
    NAMED,
    Commands,
    end_in_words,
    format_option,
    parse_format,
    parse_number,
    settings_options,
)
from deviceplugin.cli.maintenance import maintenance_commands
from deviceplugin.cli.operator import operator_commands
from deviceplugin.cli.output import LOOK_FLAGS, load_here, rendered
from deviceplugin.cli.partitions import provision
from deviceplugin.cli.printed import PRINTED
from deviceplugin.cli.profiles import profile
from deviceplugin.cli.scheduler import scheduler_commands
from deviceplugin.cli.simulate import simulate_command
from deviceplugin.config.config import Config, Setting, parse_choice
from deviceplugin.config.effective import effective
from deviceplugin.config.load import load
from deviceplugin.config.notices import notice_lines
from deviceplugin.config.origins import PREFIX
from deviceplugin.dra.section import dra_section
from deviceplugin.run import run as serve
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.vendor import VendorModule

_ABOUT = """Offers all NVIDIA, AMD and Intel GPUs of a Kubernetes node to pods.

Every flag of `run` has an environment variable, DEVICEPLUGIN_<FLAG>, and a key in the configuration
file. A flag overrides the environment, the environment overrides the file.
"""
# Those of deviceplugin.demo, which is slow to import.
SCENARIO_NAMES = ("mixed", "nvidia", "amd", "intel", "partitions")


@click.group(
    cls=Commands,
    help=_ABOUT,
    epilog=EXIT_STATUS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="deviceplugin")
@click.pass_context
def cli(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command(help="Serve this node's GPUs to the kubelet until SIGTERM.")
@settings_options(DAEMON_FLAGS)
def run(**flags: str | None) -> None:
    serve(flags)


@cli.command(
    help="Show this node's GPUs, their resources and their faults: as the running daemon has them,"
    " else, or with other flags than --state-dir, as they are now.",
    short_help="Show this node's GPUs, their resources and their faults.",
)
@settings_options((*LOOK_FLAGS, "state_dir"))
@format_option(NAMED)
def discover(form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.ask import view  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.claims import claims_of, with_slices  # noqa: PLC0415
    from deviceplugin.cli.look import look  # noqa: PLC0415
    from deviceplugin.cli.tables import report_text  # noqa: PLC0415

    form = parse_format(form, NAMED)
    document = view(flags, {"operation": "discover"})
    if document is None:
        config, modules = load_here(flags)
        configure_logs("error", "console")
        document = asyncio.run(look(config, modules))
    else:
        document = with_slices(document, claims_of(flags["state_dir"]))
    click.echo(rendered(document, form, report_text, "devices"), nl=False)


@cli.command(help="Show the installed vendors and what the daemon takes up of each.")
@settings_options(LOOK_FLAGS)
@format_option(NAMED)
def vendors(form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.vendors import (  # noqa: PLC0415  # not a part of `run`
        describe_vendors,
        vendors_text,
    )

    form = parse_format(form, NAMED)
    config, modules = load_here(flags)
    configure_logs("error", "console")
    document = asyncio.run(describe_vendors(config, modules))
    click.echo(rendered(document, form, vendors_text, "vendors"), nl=False)


@cli.command(
    help="""Check the configuration and print it with all defaults filled in.

    The files are judged alone, so the answer is the same on every machine; with --node, what they
    come to on this node is printed too, as remarks.

    With a DOCUMENT (a configuration, a ConfigMap, a Pod or another manifest, or a directory of
    them) every key of it is told: applied, checked (with --node: met or not), reported, elsewhere
    or refused.
    """,
    short_help="Check the configuration, or tell every key of documents.",
)
@settings_options(DAEMON_FLAGS)
@click.argument("document", required=False)
@click.option("--explain", metavar="KEY", help="Of a DOCUMENT this key alone, or those below it.")
@click.option("--node", is_flag=True, help="Also say what is absent or unused on this node.")
@format_option(("yaml", "json", "table"))
def check(
    document: str | None, explain: str | None, form: str | None, *, node: bool, **flags: str | None
) -> None:
    if document is not None:
        from deviceplugin.cli.check import end_refused, tell_documents  # noqa: PLC0415

        form = parse_format(form, ("table", "json", "yaml"))
        shown, text = tell_documents(flags, document, explain, node=node)
        click.echo(rendered(shown, form, text), nl=False)
        variable = os.environ.get(f"{PREFIX}ALLOW_UNSUPPORTED")
        end_refused(shown, allowed="true" in (flags.get("allow_unsupported"), variable))
        return
    form = parse_format(form, ("yaml", "json"))
    config, modules = load_here(flags) if node else load(flags)
    for line in notice_lines(config):
        click.echo(line, err=True)
    remarks = _remarks(config, modules) if node else []
    click.echo(rendered(effective(config), form), nl=False)
    for line in remarks:
        click.echo(f"on this node: {line}", err=True)
    click.echo("configuration is valid", err=True)


def _remarks(config: Config, modules: Sequence[VendorModule]) -> Sequence[str]:
    from deviceplugin.cli.check import node_remarks  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.look import look  # noqa: PLC0415

    configure_logs("error", "console")
    found = list(node_remarks(config, asyncio.run(look(config, modules))))
    if dra_section(config.sections).enabled:
        from deviceplugin.cli.dra import dra_remarks, look_dra  # noqa: PLC0415  # where it is on

        found += dra_remarks(asyncio.run(look_dra(config, modules)))
    return found


@cli.command("explain", help="Show which devices a container would get, why, and the runners-up.")
@settings_options((*LOOK_FLAGS, "state_dir"))
@click.argument("resource", required=False)
@click.option(
    "--resource", "named", metavar="NAME", help="The resource, if it is not the argument."
)
@click.option("--size", metavar="NUMBER", default="1", help="Number of devices. Default 1.")
@click.option(
    "--available",
    metavar="IDS",
    help="Free ids, comma-separated; by default all healthy ones that no pod holds.",
)
@click.option("--must-include", metavar="IDS", default="", help="Ids to include, comma-separated.")
@click.option(
    "--policy",
    metavar="NAME",
    help="Placement policy; by default the one that the daemon would use.",
)
@format_option(NAMED)
def explain_choice(resource: str | None, size: str, form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.ask import view  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.claims import with_holders  # noqa: PLC0415
    from deviceplugin.cli.explain import (  # noqa: PLC0415
        chosen,
        explain_once,
        explanation_text,
        request_of,
        resource_named,
    )
    from deviceplugin.placement.asked import Asked  # noqa: PLC0415

    form = parse_format(form, NAMED)
    available = flags.pop("available")
    asked = Asked(
        resource=resource_named(resource, flags.pop("named")),
        size=parse_number(size, "--size"),
        available=None if available is None else _ids(available),
        must_include=_ids(flags.pop("must_include") or ""),
        policy=flags.pop("policy"),
    )
    document = with_holders(view(flags, request_of(asked)), flags["state_dir"])
    if document is None:
        config, modules = load_here(flags)
        configure_logs("error", "console")
        document = asyncio.run(explain_once(config, modules, asked))
    click.echo(rendered(document, form, explanation_text, chosen), nl=False)


def _ids(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@cli.command(help="Show the daemon at work on a simulated node; needs no GPU and no cluster.")
@click.option(
    "--scenario",
    metavar=f"[{'|'.join(SCENARIO_NAMES)}]",
    default=SCENARIO_NAMES[0],
    help="Which GPUs the node has and what happens to them. Default mixed.",
)
@click.option(
    "--keep", is_flag=True, help="Leave it running until Ctrl-C, and say where its page is."
)
def demo(scenario: str, *, keep: bool) -> None:
    name = parse_choice(Setting(scenario, "--scenario"), SCENARIO_NAMES)
    from deviceplugin.demo import SCENARIOS, run_demo  # noqa: PLC0415  # not a part of `run`

    configure_logs("critical", "console")  # the story tells what happens
    asyncio.run(run_demo(SCENARIOS[name], keep=keep))


def _ask(state_dir: str | None, request: dict[str, str]) -> dict[str, Any]:
    """The answer of the daemon that the flags mean."""
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # not a part of `run`

    return ask(state_dir, request)


for _command in (
    *operator_commands(_ask),
    *PRINTED,
    *DIAGNOSIS,
    profile,
    provision,
    audit_commands,
    compliance_commands,
    scheduler_commands,
    simulate_command,
    fleet_commands,
    maintenance_commands,
):
    cli.add_command(_command)


def main() -> None:
    """The console script."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its own lines are no log events of ours
    end_in_words(partial(cli.main, standalone_mode=False))
