"""The command `provision`: serve as the process that cuts GPUs, or show what there is to do."""

import click

from deviceplugin.cli.frame import format_option, parse_format, parse_number, settings_options
from deviceplugin.cli.output import LOOK_FLAGS, load_here, rendered
from deviceplugin.cli.progress import progress
from deviceplugin.errors import ConfigError
from deviceplugin.runtime.logs import configure_logs


@click.command(
    "provision",
    help="""Cut this node's GPUs into partitions as the daemon asks, until SIGTERM.

    It runs as root, beside a daemon whose configuration has `partitions`, and does only what that
    asks for on a socket of the state directory. With --dry-run nothing is changed: it shows what it
    takes to cut the GPUs as a file of layouts says. The file has `partitions`, or is that of
    mig-parted (`mig-configs`) or of AMD's Device Config Manager (`gpu-config-profiles`); of those
    two --layout names one entry. With --status the running daemon tells how its GPUs stand.
    """,
    short_help="Cut this node's GPUs into partitions, or show what that takes.",
)
@settings_options((*LOOK_FLAGS, "state_dir", "log_level", "log_format"))
@click.option(
    "--drain-wait",
    metavar="SECONDS",
    default="0",
    help="For how long a GPU that is in use is kept from new pods. Default 0: not at all.",
)
@click.option(
    "--reload-drivers",
    is_flag=True,
    help="Where a layout needs it, and nobody uses any of its GPUs, load a driver again.",
)
@click.option("--layouts", metavar="FILE", help="The file of layouts; with --dry-run.")
@click.option("--layout", metavar="NAME", help="The entry of a foreign file.")
@click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing.")
@click.option("--status", is_flag=True, help="Show how the GPUs stand to the daemon's layouts.")
@format_option()
def provision(
    form: str | None,
    drain_wait: str,
    *,
    reload_drivers: bool,
    dry_run: bool,
    status: bool,
    **flags: str | None,
) -> None:
    form = parse_format(form)
    layouts, layout = flags.pop("layouts"), flags.pop("layout")
    if status:
        _show_status(flags["state_dir"], form)
    elif dry_run:
        _show_plan(flags, (layouts, layout), form, reloads=reload_drivers)
    elif layouts is not None or layout is not None:
        text = "--dry-run beside it: what is made true stands in the daemon's configuration"
        raise ConfigError("--layouts", layouts or layout, text)
    else:
        _serve(flags, parse_number(drain_wait, "--drain-wait"), reloads=reload_drivers)


def _serve(flags: dict[str, str | None], drain_wait_s: int, *, reloads: bool) -> None:
    from deviceplugin.cli.provision import serve_here  # noqa: PLC0415  # not a part of `run`

    config, _ = load_here(flags)
    configure_logs(config.log_level, config.log_format)
    serve_here(config, float(drain_wait_s), reloads=reloads)


def _show_plan(
    flags: dict[str, str | None], named: tuple[str | None, str | None], form: str, *, reloads: bool
) -> None:
    from deviceplugin.cli.provision import plan_here  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.config.layouts import read_layouts  # noqa: PLC0415
    from deviceplugin.provision.report import plan_text  # noqa: PLC0415

    layouts = read_layouts(*named)
    config, _ = load_here(flags)
    configure_logs("error", "console")
    with progress("planning the partitions of this node"):
        document = plan_here(config, layouts, reloads=reloads)
    click.echo(rendered(document, form, plan_text), nl=False)


def _show_status(state_dir: str | None, form: str) -> None:
    from deviceplugin.cli.ask import ask  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.provision.report import status_text  # noqa: PLC0415

    document = ask(state_dir, {"operation": "partitions"})
    click.echo(rendered(document, form, status_text), nl=False)
