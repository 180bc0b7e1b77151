"""`deviceplugin provision`: the process that cuts GPUs, and what a file of layouts would take."""

import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Event
from typing import Any

import structlog

from deviceplugin.config.config import Config
from deviceplugin.discovery.registry import installed_vendors
from deviceplugin.enforcement.cgroups import Tree
from deviceplugin.enforcement.helper import write_limit
from deviceplugin.enforcement.standing import CGROUPS
from deviceplugin.errors import ConfigError, VendorError
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.provision.hands import partitioners, read_node
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.owners import read_owners
from deviceplugin.provision.planner import plan_node
from deviceplugin.provision.report import plan_document
from deviceplugin.provision.section import Layout
from deviceplugin.provision.server import serve
from deviceplugin.runtime.files import PRIVATE, trusted_directory
from deviceplugin.vendor.partitions import Partitioner, Reloading

log = structlog.get_logger()

LOCK = "provision.lock"
REST_S = 20.0  # a step that runs at the end may come to its end


def plan_here(config: Config, layouts: Sequence[Layout], *, reloads: bool) -> dict[str, Any]:
    """The plan for this node; nothing is changed. Raises ConfigError."""
    gpus, problems = read_node(_hands(config, reloads=reloads))
    try:
        journal = Journal(config.state_dir, read_boot_id(Host(config.host_root)) or "")
    except VendorError as error:
        raise ConfigError("--state-dir", str(config.state_dir), "", reason=str(error)) from error
    made = {gpu.id: journal.places(gpu.id) for gpu in gpus}
    return plan_document(plan_node(gpus, layouts, made, {}), problems)


def serve_here(config: Config, drain_wait_s: float, *, reloads: bool) -> None:
    """Do what the daemon asks until SIGTERM; raises DevicePluginError."""
    host, stop = Host(config.host_root), Event()
    around = Around(
        state_dir=config.state_dir,
        boot=read_boot_id(host) or "",
        owners=partial(read_owners, host),
        drain_wait_s=drain_wait_s,
        limit=partial(write_limit, Tree(host.root / CGROUPS.lstrip("/"))),
    )
    _lock(config)
    helper = Helper(_hands(config, reloads=reloads), around)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("provision_serves", state_dir=str(config.state_dir), user=os.getuid())
    serve(config.state_dir, helper.answer, stop)
    helper.rest(REST_S)


def _lock(config: Config) -> None:
    """For as long as this process lives: two would undo each other's work."""
    try:
        trusted_directory(config.state_dir, PRIVATE)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fcntl.flock(os.open(config.state_dir / LOCK, flags, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        text = f"{config.state_dir}: another deviceplugin provision runs here"
        raise VendorError(text) from error
    except OSError as error:
        raise VendorError(f"{config.state_dir}: {error.strerror}") from error


def _hands(config: Config, *, reloads: bool) -> Mapping[str, Partitioner]:
    """Those of all vendors; with `reloads` they may load drivers of the node again."""
    installed = installed_vendors()
    names = config.vendors or tuple(installed)
    modules = {name: installed[name].value for name in names if name in installed}
    hands = dict(partitioners(modules, Host(config.host_root), config.sections))
    for hand in hands.values():
        if reloads and isinstance(hand, Reloading):
            hand.allow_reload()
    return hands
