"""One Intel GPU function as sysfs shows it, whole, physical or virtual."""

from collections.abc import Iterator

from msgspec import Struct

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.drm import DrmNodes, read_drm_nodes
from deviceplugin.host.pci import DEVICES, PciFunction, read_bus, read_function
from deviceplugin.host.sriov import read_iommu_group, read_physical_function, read_virtual_functions
from deviceplugin.vendors.intel.products import PRODUCTS, Product

INTEL = 0x8086
DRM_DRIVERS = frozenset({"xe", "i915"})
VFIO_DRIVERS = frozenset({"vfio-pci", "xe-vfio-pci"})
# VGA, 3D and other display controllers; 0x1200 would be Intel's NPUs, which are not GPUs.
_DISPLAY_CLASSES = frozenset({0x0300, 0x0302, 0x0380})
# Every integrated GPU of Intel sits there (xe and i915 rely on it too).
_INTEGRATED_SLOT = "0000:00:02.0"


class IntelGpu(Struct, frozen=True, kw_only=True):
    """A function with what it is made of; `virtual` holds its enabled virtual functions in order.

    `may_be_guest` is true of a function that shows neither a physical function nor the SR-IOV
    capability, as a virtual function does inside a virtual machine.
    """

    function: PciFunction
    product: Product | None
    drm: DrmNodes
    physical: str | None
    virtual: tuple[str, ...]
    total_virtual: int | None
    enabled_virtual: int
    iommu_group: str | None

    @property
    def address(self) -> str:
        """The PCI address, which is the identity."""
        return self.function.address

    @property
    def path(self) -> str:
        """The function's directory in sysfs."""
        return self.function.path

    @property
    def driver(self) -> str | None:
        """The bound kernel driver."""
        return self.function.driver

    @property
    def card(self) -> str | None:
        """The name of the card node, `card1`."""
        return self.drm.card.rpartition("/")[2] if self.drm.card else None

    @property
    def drm_path(self) -> str | None:
        """The card's directory in sysfs, where i915 keeps its files."""
        return f"{self.path}/drm/{self.card}" if self.card else None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The card and render nodes that the driver made."""
        return tuple(node for node in (self.drm.card, self.drm.render) if node)

    @property
    def integrated(self) -> bool:
        """Whether it has no memory of its own; virtual functions of one have its product."""
        if self.product:
            return self.product.integrated
        return (self.physical or self.address) == _INTEGRATED_SLOT

    @property
    def may_be_guest(self) -> bool:
        """Whether it may be a virtual function inside a virtual machine."""
        able = self.product is not None and self.product.sriov and not self.integrated
        return able and self.physical is None and self.total_virtual is None


def read_addresses(host: Host) -> Iterator[str]:
    """The addresses of Intel's display functions, by one or two small reads a PCI function."""
    for address in read_bus(host):
        if _is_display(host, address) and _is_intel(host, address):
            yield address


def read_gpu(host: Host, address: str) -> IntelGpu | None:
    """One function, None where it is vanishing; raises DiscoveryError where it is unreadable."""
    function = read_function(host, address)
    if function is None:
        return None
    return IntelGpu(
        function=function,
        product=PRODUCTS.get(function.device_id),
        drm=read_drm_nodes(host, function.path),
        physical=read_physical_function(host, address),
        virtual=read_virtual_functions(host, address),
        total_virtual=host.read_int(f"{function.path}/sriov_totalvfs"),
        enabled_virtual=host.read_int(f"{function.path}/sriov_numvfs") or 0,
        iommu_group=read_iommu_group(host, address),
    )


def _is_display(host: Host, address: str) -> bool:
    try:
        return (host.read_int(f"{DEVICES}/{address}/class") or 0) >> 8 in _DISPLAY_CLASSES
    except DiscoveryError:
        return True  # it may be one: reading all of it shows what is wrong


def _is_intel(host: Host, address: str) -> bool:
    try:
        return host.read_int(f"{DEVICES}/{address}/vendor") == INTEL
    except DiscoveryError:
        return False
