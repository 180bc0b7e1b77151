"""What commands that look at this node have in common: flags, configuration, forms of output."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from deviceplugin.config.config import Config
from deviceplugin.config.effective import check_host_root
from deviceplugin.config.load import load
from deviceplugin.vendor import VendorModule

LOOK_FLAGS = ("config", "node_name", "vendors", "host_root")


def load_here(flags: Mapping[str, str | None]) -> tuple[Config, Sequence[VendorModule]]:
    """The configuration for a command that looks at this node; raises ConfigError."""
    config, modules = load(flags)
    check_host_root(config)
    return config, modules


def rendered(
    document: dict[str, Any],
    form: str,
    as_table: Callable[[dict[str, Any]], str] | None = None,
    named: str | Callable[[dict[str, Any]], Iterable[str]] = "",
) -> str:
    """A document as a table, JSON or YAML, or one name a line: those that `named` finds, or the ids
    or names of the list of that name."""
    renderers: Mapping[str, Callable[[dict[str, Any]], str]] = {
        "table": as_table or _yaml,
        "name": lambda document: "".join(f"{name}\n" for name in _names(document, named)),
        "json": lambda document: json.dumps(document, indent=2) + "\n",
        "yaml": _yaml,
    }
    return renderers[form](document)


def _names(
    document: dict[str, Any], named: str | Callable[[dict[str, Any]], Iterable[str]]
) -> Iterable[str]:
    if callable(named):
        return named(document)
    return [one.get("id") or one["name"] for one in document[named]]


def _yaml(document: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415  # not a part of `run`

    plain = json.loads(json.dumps(document))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
