"""Which limits on memory hold on this node now, and why the others do not."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.enforcement.cgroups import LimitError, Tree
from deviceplugin.enforcement.regions import Limits, addresses_of, capacity_of
from deviceplugin.enforcement.section import EnforcementSection, enforcement_section
from deviceplugin.host import Host
from deviceplugin.model import Device
from deviceplugin.resources.build import NOT_ENFORCED, Enforced

CGROUPS = "/sys/fs/cgroup"
NRI_SOCKET = "/var/run/nri/nri.sock"
OFF = "enforcement.memory is off"
NOT_YET = "what the node can hold has not been looked at yet"
LATE = "the limit is set after the container has started (enforcement.memory: nri sets it before)"


class Standing(Struct, frozen=True, kw_only=True):
    """`capacity` are the regions of the node, `problem` why no limit holds, "" where limits do."""

    capacity: Limits = field(default_factory=lambda: MappingProxyType({}))
    problem: str = OFF

    @property
    def held(self) -> frozenset[str]:
        """The PCI addresses of GPUs of which slices are held to their memory."""
        return frozenset() if self.problem else addresses_of(self.capacity)

    def why_not(self, device: Device) -> str:
        """Why slices of a device are not held, "" where they are."""
        if takes_no_part(device):
            return "its driver takes no part in the kernel's limits (dmem)"
        return self.problem or self.unsettable(device)

    def unsettable(self, device: Device) -> str:
        """Why no limit can be set at all, be it late; "" where one can, or none is due."""
        if takes_no_part(device):
            return ""
        if self.problem and not self.capacity:
            return self.problem
        if not capacity_of(device.pci_address, self.capacity):
            return f"its driver has no region drm/{device.pci_address}/vram in dmem.capacity"
        return ""


def takes_no_part(device: Device) -> bool:
    """Whether a device's driver never has regions: NVIDIA's is none of the kernel's drivers."""
    return (device.driver or device.vendor) == "nvidia"


def read_standing(host: Host, section: EnforcementSection, *, connected: bool | None) -> Standing:
    """What holds now. `connected` says whether the runtime asks us before it makes containers, None
    for who cannot know and goes by the runtime's socket. Blocking."""
    if section.memory == "off":
        return Standing()
    tree = Tree(host.root / CGROUPS.lstrip("/"))
    capacity, problem = tree.capacity(), tree.problem() or tree.path_problem()
    return Standing(capacity=capacity, problem=problem or _late(host, section, connected))


def enable(tree: Tree) -> str:
    """Enable the controller for containers of pods; why not, "" if it is. Blocking."""
    if tree.problem() or not tree.path_problem():
        return ""
    try:
        tree.enable()
    except LimitError as error:
        return str(error)
    return ""


def _late(host: Host, section: EnforcementSection, connected: bool | None) -> str:
    if section.memory == "cgroup":
        return LATE
    if connected is None:
        connected = host.exists(NRI_SOCKET)
    text = f"the container runtime does not serve {NRI_SOCKET}"
    if section.memory == "auto":
        text = f"{text}, and {LATE}"
    return "" if connected else text


def enforced(standing: Standing, devices: Iterable[Device]) -> Enforced:
    """The devices of which slices are held, and why those of the others are not."""
    why = {device.id: standing.why_not(device) for device in devices}
    held = frozenset(device for device, reason in why.items() if not reason)
    return Enforced(devices=held, reasons={d: reason for d, reason in why.items() if reason})


def read_enforced(
    host: Host, sections: Mapping[str, object], devices: Iterable[Device]
) -> Enforced:
    """The same for who only looks; blocking. Nothing is read, and no reason given, where
    enforcement is off."""
    section = enforcement_section(sections)
    if section.memory == "off":
        return NOT_ENFORCED
    return enforced(read_standing(host, section, connected=None), devices)
