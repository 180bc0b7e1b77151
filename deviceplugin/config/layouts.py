"""Layouts of partitions from a file: ours, mig-parted's or the Device Config Manager's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from deviceplugin.config.documents import own_keys, provisions
from deviceplugin.config.files import read_config_files
from deviceplugin.config.schema import Raw, decode, decode_sections
from deviceplugin.documents.names import LISTS
from deviceplugin.errors import ConfigError
from deviceplugin.provision.foreign import (
    Dcm,
    MigParted,
    dcm_layouts,
    is_dcm,
    is_mig_parted,
    mig_layouts,
)
from deviceplugin.provision.section import Layout, Layouts

T = TypeVar("T")


def read_layouts(path: str | None, name: str | None) -> Sequence[Layout]:
    """The layouts of a file, of which `name` is one entry where it is foreign; raises
    ConfigError."""
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
    if provisions(raw):
        raw = _listed(raw)
    layouts: Layouts = decode(raw, Layouts, "layouts")
    return layouts.partitions


def _listed(raw: Raw) -> Raw:
    """The layouts of a file with lists of instances in vendors' sections, whose errors are told by
    their own keys."""
    from deviceplugin.discovery.registry import load_vendors  # noqa: PLC0415  # for such a file

    schemas = {k: v for module in load_vendors(None) for k, v in module.SECTIONS.items()}
    lists = {key: raw[key] for key in LISTS if key in raw}
    decode_sections(lists, {key: schemas[key] for key in lists})
    return {key: value for key, value in own_keys(raw, "", LISTS).items() if key not in LISTS}


def _named(found: Mapping[str, T], name: str | None, key: str) -> T:
    if name is None or name not in found:
        raise ConfigError("--layout", name, f"one of the file's {key}: {', '.join(found)}")
    return found[name]
