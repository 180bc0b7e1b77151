"""The node's own label from the API server into a file, which the configuration is read with; the
file answers while the API server does not."""

from collections.abc import Callable
from pathlib import Path

from deviceplugin.kubernetes.api import Access, Api, in_cluster
from deviceplugin.per_node.labels import NAME, labels_text
from deviceplugin.runtime.files import write_atomically


def follow(
    node: str, label: str, directory: Path, access: Callable[[], Access] | None = None
) -> bool:
    """Whether the label is another than the file had; blocks. Raises ApiError and OSError."""
    found = Api((access or in_cluster)()).request("GET", f"/api/v1/nodes/{node}")
    labels = (found.get("metadata") or {}).get("labels") or {}
    kept = {label: str(labels[label])} if label in labels else {}
    return write_atomically(directory / NAME, labels_text(kept).encode(), 0o600)
