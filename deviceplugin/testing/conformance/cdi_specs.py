"""CDI specs of a directory, as far as the suite looks into them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def described(directory: Path) -> dict[str, frozenset[str]]:
    """The host paths of the device nodes of every name that a readable spec describes."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted(directory.glob("*")):
        spec = _read_spec(path)
        for device in filter(_is_map, spec.get("devices") or []):
            found[f"{spec.get('kind')}={device.get('name')}"] = frozenset(_nodes(device))
    return found


# Any: what stands in a file of another program
def _nodes(device: dict[str, Any]) -> Iterator[str]:
    edits = device.get("containerEdits")
    nodes = edits.get("deviceNodes") if isinstance(edits, dict) else None
    for node in filter(_is_map, nodes or []):
        yield str(node.get("hostPath") or node.get("path"))


def _read_spec(path: Path) -> dict[str, Any]:
    if path.suffix not in (".json", ".yaml"):
        return {}
    try:
        spec = yaml.safe_load(path.read_text())  # JSON is YAML
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return spec if isinstance(spec, dict) else {}


def _is_map(value: object) -> bool:
    return isinstance(value, dict)
