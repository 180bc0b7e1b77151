"""The command line: the only reader of argv."""

import asyncio
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import click
import structlog
import yaml

from deviceplugin.cli.operator import operator_commands
from deviceplugin.config.config import Config, Setting, parse_choice
from deviceplugin.config.load import PREFIX, effective, load
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.vendor import VendorModule

F = TypeVar("F", bound=Callable[..., Any])
_ABOUT = """Offers all NVIDIA, AMD and Intel GPUs of a Kubernetes node to pods.

Every flag of `run` has an environment variable, DEVICEPLUGIN_<FLAG>, and a key in the configuration
file. A flag overrides the environment, the environment overrides the file.
"""
_HELP = {
    "config": "A YAML file, or a directory of YAML files.",
    "node_name": "Name of this Kubernetes node; by default the host name.",
    "vendors": "Vendors to serve, comma-separated; by default all installed ones.",
    "host_root": "Where this process finds the host's /sys, /proc and /dev. Default /.",
    "kubelet_dir": "The kubelet's directory. Default /var/lib/kubelet.",
    "cdi_dir": "Directory for CDI files. Default /var/run/cdi.",
    "state_dir": "Directory for the daemon's state. Default /var/lib/deviceplugin.",
    "metrics_address": "HOST:PORT of /metrics, /healthz and /readyz; empty disables them.",
    "log_level": "debug, info, warning or error. Default info.",
    "log_format": "json or console. Default json.",
}
_DAEMON_FLAGS = tuple(_HELP)
_LOOK_FLAGS = ("config", "node_name", "vendors", "host_root")


def _flags(names: Iterable[str]) -> Callable[[F], F]:
    """The options `names`, each as text: their meaning is checked in one place for all origins."""

    def decorate(command: F) -> F:
        for name in reversed(list(names)):
            flag = f"--{name.replace('_', '-')}"
            command = click.option(flag, name, metavar="TEXT", help=_HELP[name])(command)
        return command

    return decorate


@click.group(help=_ABOUT, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deviceplugin")
def cli() -> None:
    pass


@cli.command(help="Serve this node's GPUs to the kubelet until SIGTERM.")
@_flags(_DAEMON_FLAGS)
def run(**flags: str | None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until we listen to it: it would end us
    config, modules = load(flags)
    configure_logs(config.log_level, config.log_format)
    for note in config.notes:
        structlog.get_logger().warning("setting_without_effect", setting=note)
    for text in config.renamed:
        structlog.get_logger().warning("setting_renamed", setting=text)
    for line in config.ignored:
        structlog.get_logger().warning("vendor_ignored", reason=line)
    asyncio.run(_serve(config, modules, flags))


@cli.command(
    help="Show this node's GPUs, their resources and their faults: as the running daemon has them,"
    " else, or with other flags than --state-dir, as they are now."
)
@_flags((*_LOOK_FLAGS, "state_dir"))
@click.option("--format", "form", metavar="TEXT", help="table (default), json or yaml.")
def discover(form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.ask import view  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.look import look  # noqa: PLC0415
    from deviceplugin.cli.tables import report_text  # noqa: PLC0415

    form = _form(form)
    document = view(flags, {"operation": "discover"})
    if document is None:
        config, modules = load(flags)
        configure_logs("error", "console")
        document = asyncio.run(look(config, modules))
    click.echo(_render(document, form, report_text), nl=False)


@cli.command(help="Show the installed vendors and what the daemon takes up of each.")
@_flags(_LOOK_FLAGS)
@click.option("--format", "form", metavar="TEXT", help="table (default), json or yaml.")
def vendors(form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.vendors import (  # noqa: PLC0415  # not a part of `run`
        describe_vendors,
        vendors_text,
    )

    form = _form(form)
    config, modules = load(flags)
    configure_logs("error", "console")
    document = asyncio.run(describe_vendors(config, modules))
    click.echo(_render(document, form, vendors_text), nl=False)


def _form(given: str | None) -> str:
    choice = Setting(given or os.environ.get(f"{PREFIX}FORMAT", "table"), "--format")
    return parse_choice(choice, ("table", "json", "yaml"))


@cli.command(help="Check the configuration and print it with all defaults filled in.")
@_flags(_DAEMON_FLAGS)
def check(**flags: str | None) -> None:
    config, _ = load(flags)
    for note in config.notes:
        click.echo(f"without effect: {note}", err=True)
    for text in config.renamed:
        click.echo(f"renamed: {text}", err=True)
    for line in (*(status.error for status in config.skipped), *config.ignored):
        click.echo(f"deviceplugin: {line}", err=True)
    click.echo(_yaml(effective(config)), nl=False)


@cli.command("explain", help="Show which devices a container would get, why, and the runners-up.")
@_flags((*_LOOK_FLAGS, "state_dir"))
@click.option("--resource", metavar="TEXT", required=True, help="Name of the resource.")
@click.option("--size", type=click.IntRange(min=0), required=True, help="Number of devices.")
@click.option(
    "--available",
    metavar="IDS",
    help="Free ids, comma-separated; by default all healthy ones that no pod holds.",
)
@click.option("--must-include", metavar="IDS", default="", help="Ids to include, comma-separated.")
@click.option(
    "--policy",
    metavar="TEXT",
    help="Placement policy; by default the one that the daemon would use.",
)
@click.option("--format", "form", metavar="TEXT", help="table (default) or json.")
def explain_choice(size: int, form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.ask import view  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.cli.explain import (  # noqa: PLC0415
        explain_once,
        explanation_text,
        request_of,
    )
    from deviceplugin.placement.asked import Asked  # noqa: PLC0415

    form = parse_choice(Setting(form or "table", "--format"), ("table", "json"))
    available = flags.pop("available")
    asked = Asked(
        resource=str(flags.pop("resource")),
        size=size,
        available=None if available is None else _ids(available),
        must_include=_ids(flags.pop("must_include") or ""),
        policy=flags.pop("policy"),
    )
    document = view(flags, request_of(asked))
    if document is None:
        config, modules = load(flags)
        configure_logs("error", "console")
        document = asyncio.run(explain_once(config, modules, asked))
    text = explanation_text(document)
    click.echo(text if form == "table" else json.dumps(document, indent=2) + "\n", nl=False)


def _ids(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@cli.command(help="Show the daemon at work on a simulated node; needs no GPU and no cluster.")
@click.option(
    "--scenario", metavar="TEXT", default="nvidia", help="nvidia (default), amd, intel or mixed."
)
@click.option("--keep", is_flag=True, help="Leave the node running until Ctrl-C.")
def demo(scenario: str, *, keep: bool) -> None:
    from deviceplugin.demo import SCENARIOS, run_demo  # noqa: PLC0415  # not a part of `run`

    name = parse_choice(Setting(scenario, "--scenario"), tuple(SCENARIOS))
    configure_logs("error", "console")
    asyncio.run(run_demo(SCENARIOS[name], keep=keep))


async def _serve(
    config: Config, modules: Sequence[VendorModule], flags: Mapping[str, str | None]
) -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    from deviceplugin.config.reload import Origin  # noqa: PLC0415
    from deviceplugin.daemon.assembly import Start, assemble  # noqa: PLC0415  # gRPC is slow
    from deviceplugin.daemon.generation import with_vendors  # noqa: PLC0415

    origin = Origin(config=config, load=partial(load, flags), describe=effective, asked=asked)
    config, vendors = await with_vendors(config, modules)
    _raise_descriptor_limit()
    seed = random.SystemRandom().getrandbits(32)
    start = Start(config=config, vendors=vendors, now=_steady_clock(), seed=seed, origin=origin)
    serving = asyncio.create_task(assemble(start).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


def _raise_descriptor_limit() -> None:
    """Each client is a descriptor; nobody else gets less by it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _steady_clock() -> Callable[[], float]:
    """Unix seconds that do not jump when the clock is set: what they are for is how long ago."""
    offset_s = time.time() - time.monotonic()
    return lambda: offset_s + time.monotonic()


def _render(document: dict[str, Any], form: str, as_table: Callable[[dict[str, Any]], str]) -> str:
    renderers: Mapping[str, Callable[[dict[str, Any]], str]] = {
        "table": as_table,
        "json": lambda document: json.dumps(document, indent=2) + "\n",
        "yaml": _yaml,
    }
    return renderers[form](document)


def _yaml(document: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(document))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _ask(state_dir: str | None, config: str | None, request: dict[str, str]) -> dict[str, Any]:
    """The answer of the daemon that the flags mean."""
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # not a part of `run`

    return ask(state_dir, config, request)


for _command in operator_commands(_ask):
    cli.add_command(_command)


def main() -> None:
    """The console script: exit 2 and one line for anything the person got wrong."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its own lines are no log events of ours
    try:
        cli.main(standalone_mode=False)
    except ConfigError as error:
        _end(str(error))
    except DevicePluginError as error:
        _end(str(error), 1)
    except click.ClickException as error:
        _end(" ".join(error.format_message().split()))
    except click.exceptions.Abort:
        sys.exit(130)


def _end(text: str, status: int = 2) -> None:
    click.echo(f"deviceplugin: {text}", err=True)
    sys.exit(status)
