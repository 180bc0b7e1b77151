"""The labels by which series name a device; pure."""

from deviceplugin.model import Device
from deviceplugin.telemetry.model import Labels, Owner

_IN_LABELS = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def identity(device: Device, whole: Device) -> Labels:
    """The common labels of a device, whose GPU is `whole`."""
    index = whole.index if whole.index is not None else device.index
    return (
        ("vendor", device.vendor),
        ("uuid", device.id),
        ("index", "" if index is None else str(index)),
        ("pci", device.pci_address or whole.pci_address or ""),
        ("model", device.product or ""),
        ("partition", partition_of(device)),
    )


def partition_of(device: Device) -> str:
    """What a partition is named by among those of its GPU: `0:1` is partition 1 of GPU 0; empty for
    a whole GPU."""
    if device.parent is None:
        return ""
    if device.ordinal is not None:
        return device.ordinal
    return str(device.index) if device.index is not None else device.pci_address or device.id


def labelled(labels: Labels, owner: Owner | None = None, *, before: bool = False) -> str:
    """The labels as they are sent; `before`: behind others, so with a comma in front."""
    if owner is not None:
        pod = (("namespace", owner.namespace), ("pod", owner.pod), ("container", owner.container))
        labels = (*labels, *pod)
    text = ",".join(f'{name}="{value.translate(_IN_LABELS)}"' for name, value in labels)
    return f",{text}" if before and text else text
