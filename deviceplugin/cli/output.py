"""What commands that look at this node have in common: flags, configuration, forms of output."""

import json
from collections.abc import Callable, Mapping, Sequence
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
    named: str = "",
) -> str:
    """A document as a table, JSON or YAML, or the ids or names of its list `named`, one a line."""
    renderers: Mapping[str, Callable[[dict[str, Any]], str]] = {
        "table": as_table or _yaml,
        "name": lambda document: "".join(
            f"{one.get('id') or one['name']}\n" for one in document[named]
        ),
        "json": lambda document: json.dumps(document, indent=2) + "\n",
        "yaml": _yaml,
    }
    return renderers[form](document)


def _yaml(document: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415  # not a part of `run`

    plain = json.loads(json.dumps(document))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
