"""`deviceplugin provision`: what it takes to cut this node as a file of layouts says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from deviceplugin.config.config import Config
from deviceplugin.config.files import read_config_files
from deviceplugin.config.schema import Raw, decode
from deviceplugin.discovery.registry import installed_vendors
from deviceplugin.errors import ConfigError, VendorError
from deviceplugin.host import Host
from deviceplugin.host.boot import read_boot_id
from deviceplugin.provision.foreign import (
    Dcm,
    MigParted,
    dcm_layouts,
    is_dcm,
    is_mig_parted,
    mig_layouts,
)
from deviceplugin.provision.hands import partitioners, read_node
from deviceplugin.provision.journal import Journal
from deviceplugin.provision.planner import plan_node
from deviceplugin.provision.report import plan_document
from deviceplugin.provision.section import Layout, Layouts

T = TypeVar("T")


def plan_here(config: Config, layouts: Sequence[Layout]) -> dict[str, Any]:
    """The plan for this node; nothing is changed. Raises ConfigError."""
    host = Host(config.host_root)
    installed = installed_vendors()
    names = config.vendors or tuple(installed)
    modules = {name: installed[name].value for name in names if name in installed}
    hands = dict(partitioners(modules, host, config.sections))
    gpus, problems = read_node(hands)
    try:
        journal = Journal(config.state_dir, read_boot_id(host) or "")
    except VendorError as error:
        raise ConfigError("--state-dir", str(config.state_dir), "", reason=str(error)) from error
    made = {gpu.id: journal.places(gpu.id) for gpu in gpus}
    return plan_document(plan_node(gpus, layouts, made, {}), problems)


def read_layouts(path: str | None, name: str | None) -> Sequence[Layout]:
    """The layouts of a file: ours, mig-parted's or the Device Config Manager's, of which `name` is
    one; raises ConfigError."""
    if path is None:
        raise ConfigError(
            "--layouts", None, "a file with `partitions`, `mig-configs` or `gpu-config-profiles`"
        )
    raw = _read(Path(path))
    if is_mig_parted(raw):
        configs = decode(raw, MigParted, "layouts").mig_configs
        return mig_layouts(_named(configs, name, "mig-configs"))
    if is_dcm(raw):
        profiles = decode(raw, Dcm, "layouts").profiles
        return dcm_layouts(_named(profiles, name, "gpu-config-profiles"))
    return _own(raw, name)


def _read(path: Path) -> Raw:
    try:
        return read_config_files(path).raw
    except ConfigError as error:
        found = ("--layouts" if one.key == "--config" else one.key for one in error.errors)
        again = [
            ConfigError(key, one.value, one.expected)
            for key, one in zip(found, error.errors, strict=True)
        ]
        raise ConfigError.of_several(again, more=error.more) from error


def _own(raw: Raw, name: str | None) -> Sequence[Layout]:
    if name is not None:
        text = "no name: a file with `partitions` has one layout for each GPU"
        raise ConfigError("--layout", name, text)
    layouts: Layouts = decode(raw, Layouts, "layouts")
    return layouts.partitions


def _named(found: Mapping[str, T], name: str | None, key: str) -> T:
    if name is None or name not in found:
        raise ConfigError("--layout", name, f"one of the file's {key}: {', '.join(found)}")
    return found[name]
