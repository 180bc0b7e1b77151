"""A vendor that wants to know what each container holds, of all its resources together."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from deviceplugin.model import Device


@runtime_checkable
class HoldingsFollower(Protocol):
    """The kubelet asks for each resource of a container by a call of its own: what is to be true of
    all devices of a container can be made so afterwards alone."""

    def held(self, containers: Sequence[Sequence[Device]]) -> None:
        """The vendor's devices of each container that holds any, given at the start and whenever
        that has changed; may write on the host. Called on the thread of container edits."""
