"""The command `scheduler`: the extender of the cluster's kube-scheduler, and what it decided."""

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from deviceplugin.cli.frame import format_option, parse_format, parse_number
from deviceplugin.cli.output import rendered
from deviceplugin.cli.reading import reading_options
from deviceplugin.cli.scheduler_explain import explain
from deviceplugin.cli.store import who_options
from deviceplugin.config.config import LOG_LEVELS, Setting, parse_address, parse_choice
from deviceplugin.errors import ConfigError
from deviceplugin.runtime.logs import configure_logs

if TYPE_CHECKING:
    from deviceplugin.kubernetes.api import Api
    from deviceplugin.scheduler.service import Settings

ADDRESS = "0.0.0.0:8890"
_MODEL_FORMS = ("json", "yaml")


@click.group(
    "scheduler",
    help="""Say to the kube-scheduler of the cluster which node a pod should go to, until SIGTERM.

    It runs in the cluster, as deploy/scheduler has it, and watches nodes and pods.
    """,
    short_help="Serve an extender to the cluster's kube-scheduler.",
    invoke_without_command=True,
)
@click.option("--address", metavar="HOST:PORT", default=ADDRESS, help=f"Default {ADDRESS}.")
@click.option("--certificate", metavar="FILE", help="Serve HTTPS with this certificate (PEM).")
@click.option("--key", metavar="FILE", help="Its key (PEM).")
@reading_options
@click.option(
    "--dra-drivers",
    metavar="LIST",
    default="",
    help="DRA drivers beside those of the vendors whose ResourceSlices have GPUs, comma-separated.",
)
@click.option(
    "--config",
    metavar="PATH",
    help="A file or a directory with workloads, gpu_nodes, realtime, network, ai_scheduler, and"
    " weights of GPUResourceFit, GPUAffinity and GPULoadBalancing.",
)
@click.option(
    "--fair-share",
    metavar="LIST",
    help="NAMESPACE=WEIGHT, comma-separated (`all`: all alike): where the cluster is full, GPUs are"
    " for namespaces below their share.",
)
@click.option(
    "--starving-after", metavar="SECONDS", default="300", help="Then a pod is let through. 300."
)
@click.option(
    "--keep-after",
    metavar="SECONDS",
    default="0",
    help="A pod that finds no room for so long gets a node kept for it. 0: never.",
)
@click.option(
    "--power",
    metavar="LIST",
    help="MODEL=IDLE:FULL, comma-separated: watts of a GPU. Less of it is better.",
)
@click.option(
    "--power-weight", metavar="NUMBER", default="20", help="Of it, beside 50 of GPUResourceFit. 20."
)
@click.option(
    "--prometheus",
    metavar="URL",
    help="Where ai_scheduler learns from; by default from the pods that end while this runs.",
)
@click.option(
    "--history",
    metavar="URL",
    help="Or from the nodes' daemons: http://NAME.NAMESPACE:PORT, both of their pods.",
)
@who_options
@click.option("--model", metavar="FILE", help="Where the model of ai_scheduler is kept.")
@click.option("--events", is_flag=True, help="Tell on each pod why it was sent where it was.")
@click.option("--log-level", metavar=f"[{'|'.join(LOG_LEVELS)}]", default="info")
@click.pass_context
def scheduler_commands(
    ctx: click.Context, /, log_level: str, *, events: bool, **flags: str | None
) -> None:
    if ctx.invoked_subcommand is not None:
        return
    from deviceplugin.cli.scheduler_settings import settings_of  # noqa: PLC0415  # not for `run`

    settings = settings_of(flags, address_of(flags["address"] or ""), events=events)
    configure_logs(parse_choice(Setting(log_level, "--log-level"), LOG_LEVELS), "json")
    from deviceplugin.kubernetes.api import Api, in_cluster  # noqa: PLC0415  # not a part of `run`

    api = Api(in_cluster())
    try:
        asyncio.run(_serve(settings, api))
    except OSError as error:
        raise ConfigError(
            "--address", flags["address"], "an address to listen on", reason=str(error)
        ) from error


async def _serve(settings: "Settings", api: "Api") -> None:
    from deviceplugin.runtime.garbage import settle  # noqa: PLC0415
    from deviceplugin.scheduler.service import Service  # noqa: PLC0415  # not a part of `run`

    service, loop = Service(settings, settle=settle), asyncio.get_running_loop()
    serving = asyncio.ensure_future(service.run(api))
    loop.add_signal_handler(signal.SIGTERM, service.end)
    loop.add_signal_handler(signal.SIGINT, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


def address_of(text: str) -> tuple[str, int]:
    """Raises ConfigError."""
    address = parse_address(Setting(text, "--address"))
    if address is None:
        raise ConfigError("--address", text, "HOST:PORT")
    return address


@scheduler_commands.command(
    "render",
    help="Print kube-scheduler's own configuration, with the extender in it, from a file whose"
    " plugins are GPUResourceFit, GPUAffinity and GPULoadBalancing.",
    short_help="Print kube-scheduler's own configuration.",
)
@click.option("--config", metavar="PATH", required=True, help="The file.")
@click.option(
    "--url",
    metavar="URL",
    default="http://deviceplugin-scheduler.kube-system.svc:8890",
    help="Of the extender.",
)
@click.option("--kubeconfig", default="/etc/kubernetes/scheduler.conf", help="Of kube-scheduler.")
def render(config: str, url: str, kubeconfig: str) -> None:
    from deviceplugin.cli.scheduler_config import (  # noqa: PLC0415  # not for `run`
        configuration_text,
    )

    click.echo(configuration_text(config, url, kubeconfig), nl=False)


scheduler_commands.add_command(explain)


@scheduler_commands.command(
    "train",
    help="Make a model of runs that were, and print how well it predicts the latest of them.",
    short_help="Make a model of runs that were.",
)
@click.option("--prometheus", metavar="URL", help="Take the runs from there.")
@click.option(
    "--history",
    metavar="URL",
    help="Take the runs from the nodes' daemons: http://NAME.NAMESPACE:PORT, of their pods.",
)
@who_options
@click.option(
    "--runs",
    metavar="FILE",
    help="Take the runs from CSV: namespace, owner, start (Unix seconds), seconds, and if you like"
    " container, peak_mib, busy_ratio.",
)
@click.option("--model", metavar="FILE", required=True, help="Write the model there.")
@click.option("--retention", metavar="DAYS", default="30", help="Of runs. Default 30.")
@format_option(_MODEL_FORMS)
def train(model: str, retention: str, form: str | None, **flags: str | None) -> None:
    from deviceplugin.cli.learning import train_once  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form, _MODEL_FORMS)
    days = parse_number(retention, "--retention")
    click.echo(rendered(train_once(flags, model, days), form), nl=False)


@scheduler_commands.command("model", help="Show what a model was made of, and how good it was.")
@click.argument("file")
@format_option(_MODEL_FORMS)
def show_model(file: str, form: str | None) -> None:
    from deviceplugin.cli.learning import shown_model  # noqa: PLC0415  # not a part of `run`

    form = parse_format(form, _MODEL_FORMS)
    click.echo(rendered(shown_model(file), form), nl=False)
