"""What the kubelet side tells about itself; the metrics endpoint implements it."""

from typing import Protocol

from deviceplugin.errors import Refusal
from deviceplugin.model import ResourceName


class Recorder(Protocol):
    """Counts and times; every method is cheap and never fails."""

    def rpc(self, method: str, seconds: float) -> None:
        """An RPC was answered after `seconds`."""

    def allocated(self, resource: ResourceName) -> None:
        """A container request was answered."""

    def refused(self, resource: ResourceName, refusal: Refusal) -> None:
        """A container request was refused."""

    def registered(self, resource: ResourceName, *, accepted: bool) -> None:
        """A registration was answered by the kubelet."""

    def listed(self, resource: ResourceName) -> None:
        """A list was sent on a stream."""

    def kubelet_restarted(self) -> None:
        """A new kubelet was seen."""
