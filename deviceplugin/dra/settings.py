"""The settings of the daemon that its drivers need."""

from pathlib import Path
from typing import Protocol


class OfNode(Protocol):
    """The node's name and the daemon's directories."""

    @property
    def node_name(self) -> str:
        """In Kubernetes."""

    @property
    def host_root(self) -> Path:
        """Where the host's files are."""

    @property
    def kubelet_dir(self) -> Path:
        """The kubelet's."""

    @property
    def cdi_dir(self) -> Path:
        """Of CDI files."""

    @property
    def state_dir(self) -> Path:
        """Ours."""
