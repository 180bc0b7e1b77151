"""`deviceplugin run`: from its flags to a daemon that serves until SIGTERM."""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from deviceplugin.config.effective import check_host_root, effective
from deviceplugin.config.last_good import Started, keep_copy, load_or_last_good
from deviceplugin.config.load import load
from deviceplugin.config.notices import notices
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.host.confine import refuse_new_rights
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.runtime.threads import end_without_threads

FLAGS = (
    *("config", "node_name", "vendors", "host_root", "kubelet_dir", "cdi_dir", "state_dir"),
    *("trusted_dirs", "metrics_address", "expose_pods", "log_level", "log_format"),
    "allow_unsupported",
)
SWITCHES = frozenset({"allow_unsupported", "expose_pods"})  # they have no value
_BY_OPTION = {f"--{name.replace('_', '-')}": name for name in FLAGS if name not in SWITCHES}


def plain_flags(arguments: Sequence[str]) -> dict[str, str | None] | None:
    """The flags where there is nothing but flags of `run` with their values, as click has them.

    None for all else, which is click's to understand or to refuse. Importing click and making all
    commands is a tenth of the time of a start, and 1 MiB.
    """
    flags: dict[str, str | None] = dict.fromkeys(FLAGS)
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if not equals:
            value = next(rest, "-")
        if option not in _BY_OPTION or (not equals and value.startswith("-")):
            return None
        flags[_BY_OPTION[option]] = value
    return flags


def main(flags: Mapping[str, str | None]) -> None:
    """Run, and end with one line for each thing that is wrong, as the other commands do."""
    try:
        run(flags)
    except DevicePluginError as error:
        sys.stderr.writelines(f"deviceplugin: {line}\n" for line in lines_of(error))
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(130)


def lines_of(error: DevicePluginError) -> Sequence[str]:
    """What is wrong, a line for each thing."""
    if isinstance(error, ConfigError):
        return [*map(str, error.errors), *(["there is more"] if error.more else [])]
    return [str(error)]


def status_of(error: DevicePluginError) -> int:
    """The exit status: 2 for what the person gave, 1 for what the node refuses."""
    return 2 if isinstance(error, ConfigError) else 1


def run(flags: Mapping[str, str | None]) -> None:
    """Serve until SIGTERM; raises ConfigError, and DevicePluginError for what the node refuses."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until we listen to it: it would end us
    started = load_or_last_good(flags)
    config = started.config
    check_host_root(config)
    os.umask(0o077)  # what others may read says so itself
    refuse_new_rights()
    configure_logs(config.log_level, config.log_format)
    log = structlog.get_logger()
    if started.refused:
        log.error("configuration_refused", reason=started.refused, instead=started.instead)
    for event, fields in notices(config):
        log.warning(event, **fields)
    _raise_descriptor_limit()
    asyncio.run(_serve(started, flags))


async def _serve(started: Started, flags: Mapping[str, str | None]) -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    from deviceplugin.config.reload import Origin  # noqa: PLC0415
    from deviceplugin.daemon.assembly import assemble  # noqa: PLC0415  # gRPC is slow
    from deviceplugin.daemon.core import Start  # noqa: PLC0415
    from deviceplugin.daemon.generation import with_vendors  # noqa: PLC0415

    origin = Origin(
        config=started.config,
        load=partial(load, flags),
        describe=effective,
        asked=asked,
        keep=keep_copy,
        refused=started.refused,
        good_at=started.good_at,
    )
    config, vendors = await with_vendors(started.config, started.modules)
    seed = int.from_bytes(os.urandom(4))
    start = Start(config=config, vendors=vendors, now=_steady_clock(), seed=seed, origin=origin)
    serving = asyncio.create_task(assemble(start).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    end_without_threads(0 if serving.cancelled() else 1)
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
