"""NPUs from sysfs: PCI functions of Acme with a directory `npu/npu<N>` of the driver's."""

from acme_npu.section import NAME, AcmeSection
from deviceplugin.api import (
    Device,
    DeviceID,
    Discovery,
    DiscoveryError,
    Fault,
    Host,
    Link,
    ResourceName,
    UnavailableError,
    faults,
    modules,
    numbers,
    pci,
    replace,
)

PCI_VENDOR = 0x1AC3
SOURCE = f"{NAME}.discovery"
DOMAIN = "acme.example"
RING = "RING"  # Acme's own fabric; the word that `discover` and `explain` show
RING_COST = 60  # between an XGMI hop (15) and a single NVLink (100): docs/placement.md


def discover(host: Host, section: AcmeSection) -> Discovery:
    """All NPUs of the node; one that cannot be read is a fault and costs itself alone."""
    found: list[tuple[Device, Fault | None]] = []

    def unreadable(address: str, error: DiscoveryError) -> None:
        device = _base(address, section)
        fault = faults.UNREADABLE.fault(device.id, SOURCE, str(error))
        found.append((device, fault))

    for function in pci.read_gpus(host, PCI_VENDOR, unreadable):
        try:
            device = _device(host, function, section)
            found.append((device, _node_fault(device)))
        except DiscoveryError as error:
            unreadable(function.address, error)
    if not found:
        raise UnavailableError("there is no Acme NPU on the PCI bus")
    return Discovery(
        devices=tuple(device for device, _ in found),
        faults=tuple(fault for _, fault in found if fault),
        driver_version=modules.read_module_version(host, "acme_npu"),
    )


def _base(address: str, section: AcmeSection) -> Device:
    """What is known of an NPU without reading it: it keeps its resource, and is Unhealthy."""
    return Device(
        id=DeviceID(address),
        vendor=NAME,
        resource=ResourceName(f"{DOMAIN}/{section.resource}"),
        policy=section.scheduling.policy,
        pci_address=address,
        noun="npu",
    )


def _device(host: Host, function: pci.PciFunction, section: AcmeSection) -> Device:
    names = numbers.numbered(host.read_names(f"{function.path}/npu"), "npu")
    minor = names[0][0] if names else None
    node = f"/dev/acme{minor}"
    return replace(
        _base(function.address, section),
        product=host.read_line(f"{function.path}/product"),
        index=minor,
        numa_node=function.numa_node,
        memory_bytes=host.read_int(f"{function.path}/memory_bytes"),
        nodes=(node,) if minor is not None and host.exists(node) else (),
        links=_links(host, function),
    )


def _links(host: Host, function: pci.PciFunction) -> tuple[Link, ...]:
    """The neighbours on the ring, as the driver links to them."""
    peers = (host.read_link_name(f"{function.path}/ring{side}") for side in (0, 1))
    there = sorted({peer for peer in peers if peer is not None})
    return tuple(Link(peer=DeviceID(peer), kind=RING, cost=RING_COST) for peer in there)


def _node_fault(device: Device) -> Fault | None:
    node = f"/dev/acme{'?' if device.index is None else device.index}"
    return None if device.nodes else faults.NODE_MISSING.fault(device.id, SOURCE, node)
