"""Drivers of virtual functions: the part of `deviceplugin provision` that vendors share.

A function goes from its driver by `unbind`, is meant for another by `driver_override`, and is taken
by `drivers_probe` (Documentation/ABI/testing/sysfs-bus-pci). Without an override the kernel goes by
its tables of ids, so vfio-pci alone is given one.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.drm import read_drm_nodes
from deviceplugin.host.openers import read_openers
from deviceplugin.host.pci import DEVICES
from deviceplugin.host.sriov import (
    read_group_members,
    read_iommu_group,
    read_vfio_nodes,
    read_virtual_functions,
)
from deviceplugin.vendor.partitions import UNBOUND, VFIO, Step

_BUS = "/sys/bus/pci"
_BRIDGE = "0x06"  # its class begins so: it does no more than pass on what others send
_NO_IOMMU = (
    "is in no IOMMU group, so no machine can have it: turn the IOMMU on (VT-d or AMD-Vi in the"
    " firmware, for Intel also intel_iommu=on for the kernel)"
)
_NONE = "\n"  # clears an override
Write = Callable[[str, str], None]


class FunctionDrivers:
    """Of the functions of any physical function of the node."""

    def __init__(self, host: Host, write: Write) -> None:
        self._host, self._write = host, write

    def drivers(self, physical: str) -> tuple[str, ...]:
        """Those of the functions that are enabled, in order."""
        functions = read_virtual_functions(self._host, physical)
        return tuple(self._driver(address) for address in functions)

    def loaded(self) -> tuple[str, ...]:
        """The drivers of the PCI bus."""
        return self._host.read_names(f"{_BUS}/drivers")

    def unassignable(self, physical: str) -> str:
        """Why its functions cannot be given to machines, as far as that is known before they are
        there; empty where nothing speaks against it."""
        if functions := read_virtual_functions(self._host, physical):
            return next(filter(None, (self._problem(one, functions) for one in functions)), "")
        if read_iommu_group(self._host, physical) is None:
            return f"{physical} {_NO_IOMMU}"
        return ""

    def held(self, physical: str) -> tuple[str, ...]:
        """Who has one of them open."""
        functions = read_virtual_functions(self._host, physical)
        return tuple(one for address in functions for one in self._holders(address))

    def is_done(self, step: Step) -> bool:
        """Whether every function has the driver of the step."""
        return self.drivers(step.gpu) == tuple(step.name.split())

    def apply(self, step: Step) -> None:
        """Give each function that has another driver the one of the step; raises VendorError."""
        functions = read_virtual_functions(self._host, step.gpu)
        for address, driver in zip(functions, step.name.split(), strict=False):
            if driver == VFIO and (problem := self._problem(address, functions)):
                raise VendorError(problem)
        for address, driver in zip(functions, step.name.split(), strict=False):
            if self._driver(address) != driver:
                self._bind(address, driver)

    def _bind(self, address: str, driver: str) -> None:
        bound = self._driver(address)
        if bound != UNBOUND:
            self._write(f"{_BUS}/drivers/{bound}/unbind", address)
        override = driver if driver == VFIO else _NONE
        self._write(f"{DEVICES}/{address}/driver_override", override)
        if driver == UNBOUND:
            return
        self._write(f"{_BUS}/drivers_probe", address)
        now = self._driver(address)
        if now != driver:
            has = "no driver" if now == UNBOUND else now
            text = f"{address} was not taken by {driver}, it has {has}: see the kernel log"
            raise VendorError(text)

    def _driver(self, address: str) -> str:
        return self._host.read_link_name(f"{DEVICES}/{address}/driver") or UNBOUND

    def _problem(self, address: str, functions: Collection[str]) -> str:
        """A group is given away whole: what else is in it would go too."""
        group = read_iommu_group(self._host, address)
        if group is None:
            return f"{address} {_NO_IOMMU}"
        members = read_group_members(self._host, group)
        others = [one for one in members if one not in functions and not self._is_bridge(one)]
        if not others:
            return ""
        return (
            f"{address} is in IOMMU group {group} with {', '.join(others)}: a machine would get all"
            " of them (turn ACS on in the firmware, or use another slot)"
        )

    def _is_bridge(self, address: str) -> bool:
        return (self._host.read_line(f"{DEVICES}/{address}/class") or "").startswith(_BRIDGE)

    def _holders(self, address: str) -> Iterator[str]:
        for opener in read_openers(self._host, self._nodes(address)):
            yield f"{opener} on {address}"

    def _nodes(self, address: str) -> Sequence[str]:
        drm = read_drm_nodes(self._host, f"{DEVICES}/{address}")
        vfio = read_vfio_nodes(self._host, address)
        return [node for node in (drm.card, drm.render, *vfio) if node and node != "/dev/iommu"]
