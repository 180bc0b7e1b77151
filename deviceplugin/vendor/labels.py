"""How a vendor describes a node in labels of its own."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from msgspec import Struct

from deviceplugin.model import Device, Resource

# Labels below it are the same for all vendors: they are written whenever labels are.
LABEL_PREFIX = "deviceplugin"


class LabelView(Struct, frozen=True, kw_only=True):
    """What a vendor has on the node: its devices in order, the resources that they are in, and
    its versions as its last discovery gave them; `started` is when labelling began (Unix
    seconds)."""

    devices: tuple[Device, ...]
    resources: tuple[Resource, ...] = ()
    driver_version: str | None = None
    library_version: str | None = None
    started: int | None = None


@runtime_checkable
class Labeller(Protocol):
    """A vendor whose own tools label nodes."""

    def node_labels(self, view: LabelView) -> Mapping[str, str]:
        """The labels that clusters with the vendor's own labeller select on, by their whole names,
        and `deviceplugin/link-domain` where GPUs of several nodes are one domain of links.

        May read the host, on a thread of its own. A label that Kubernetes would refuse is left
        out, with one line in the log.
        """
