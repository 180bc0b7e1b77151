"""The command `scheduler`: the extender of the cluster's kube-scheduler, and what it decided."""

import asyncio
import http.client
import signal
from typing import TYPE_CHECKING

import click

from deviceplugin.cli.frame import parse_number
from deviceplugin.config.config import LOG_LEVELS, Setting, parse_address, parse_choice
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.runtime.logs import configure_logs

if TYPE_CHECKING:
    import ssl

    from deviceplugin.kubernetes.api import Api
    from deviceplugin.scheduler.service import Settings

ADDRESS = "0.0.0.0:8890"
_ASK_S = 10.0


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
@click.option(
    "--shares",
    metavar="LIST",
    default="",
    help="RESOURCE=NUMBER, comma-separated: thousandths of a GPU that one of the resource is.",
)
@click.option("--model-label", metavar="NAME", help="The label of nodes with the GPU's model.")
@click.option("--log-level", metavar=f"[{'|'.join(LOG_LEVELS)}]", default="info")
@click.pass_context
def scheduler_commands(ctx: click.Context, /, log_level: str, **flags: str | None) -> None:
    if ctx.invoked_subcommand is not None:
        return
    settings = _settings(flags)
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
    from deviceplugin.scheduler.service import Service  # noqa: PLC0415  # not a part of `run`

    serving = asyncio.ensure_future(Service(settings).run(api))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


def _settings(flags: dict[str, str | None]) -> "Settings":
    from deviceplugin.scheduler.objects import Reading  # noqa: PLC0415  # not a part of `run`
    from deviceplugin.scheduler.service import Settings  # noqa: PLC0415

    reading = Reading(shares=_shares(flags["shares"] or ""))
    if label := flags["model_label"]:
        reading = Reading(shares=reading.shares, model_label=label)
    return Settings(
        address=_address(flags["address"] or ""),
        reading=reading,
        tls=_tls(flags["certificate"], flags["key"]),
    )


def _address(text: str) -> tuple[str, int]:
    address = parse_address(Setting(text, "--address"))
    if address is None:
        raise ConfigError("--address", text, "HOST:PORT")
    return address


def _shares(text: str) -> dict[str, int]:
    shares = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.strip().partition("=")
        milli = parse_number(number, "--shares") if number.isdecimal() else 0
        if not name or not 1 <= milli <= 1000:
            raise ConfigError("--shares", part, "RESOURCE=NUMBER, the number from 1 to 1000")
        shares[name] = milli
    return shares


def _tls(certificate: str | None, key: str | None) -> "ssl.SSLContext | None":
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise ConfigError(
            "--certificate", certificate or "", "both --certificate and --key, or none"
        )
    import ssl  # noqa: PLC0415  # OpenSSL is 4 MiB

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:
        raise ConfigError(
            "--certificate", certificate, "a certificate and its key", reason=str(error)
        ) from error
    return context


@scheduler_commands.command("explain", help="Show why NAMESPACE/POD was sent where it was.")
@click.argument("pod", metavar="NAMESPACE/POD")
@click.option("--address", metavar="HOST:PORT", default="127.0.0.1:8890", help="Of the extender.")
def explain(pod: str, address: str) -> None:
    host, port = _address(address)
    connection = http.client.HTTPConnection(host, port, timeout=_ASK_S)
    try:
        connection.request("GET", f"/explain/{pod}")
        answer = connection.getresponse()
        text = answer.read(1 << 20).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise DevicePluginError(f"{address}: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise DevicePluginError(f"{pod}: {text.strip()}")
    click.echo(text, nl=False)
