"""SR-IOV and VFIO as sysfs shows them: physical and virtual functions, IOMMU groups."""

from deviceplugin.host.host import Host
from deviceplugin.host.numbers import numbered
from deviceplugin.host.pci import DEVICES


def read_physical_function(host: Host, address: str) -> str | None:
    """The address of a virtual function's physical function, None for any other function."""
    return host.read_link_name(f"{DEVICES}/{address}/physfn")


def read_virtual_functions(host: Host, address: str) -> tuple[str, ...]:
    """The addresses of a physical function's enabled virtual functions, virtfn0 first."""
    names = host.read_names(f"{DEVICES}/{address}")
    functions = (name for _, name in numbered(names, "virtfn"))
    links = (host.read_link_name(f"{DEVICES}/{address}/{name}") for name in functions)
    return tuple(link for link in links if link)


def read_iommu_group(host: Host, address: str) -> str | None:
    """The number of a function's IOMMU group, None without one."""
    return host.read_link_name(f"{DEVICES}/{address}/iommu_group")


def read_group_members(host: Host, group: str) -> tuple[str, ...]:
    """The addresses of all functions in an IOMMU group: they can be given away only together."""
    return host.read_names(f"/sys/kernel/iommu_groups/{group}/devices")


def vfio_group_node(group: str) -> str:
    """The node by which a program gets the functions of an IOMMU group."""
    return f"/dev/vfio/{group}"


def read_vfio_nodes(host: Host, address: str) -> tuple[str, ...]:
    """The VFIO nodes of a function that exist: its group's and, with iommufd, its own.

    `/dev/vfio/devices/vfio<N>` is of use only together with `/dev/iommu` (kernel 6.2).
    """
    group = read_iommu_group(host, address)
    nodes = [vfio_group_node(group)] if group else []
    if host.exists("/dev/iommu"):
        own = host.read_names(f"{DEVICES}/{address}/vfio-dev")
        nodes += [f"/dev/vfio/devices/{name}" for name in own] + ["/dev/iommu"] * bool(own)
    return tuple(node for node in nodes if host.exists(node))
