"""The KFD topology (drivers/gpu/drm/amd/amdkfd/kfd_topology.c): parsers and one read of it all.

KFD renumbers its nodes at every rebuild: a node number means something within one Topology only.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.kfd import TOPOLOGY
from deviceplugin.host.numbers import parse_decimal
from deviceplugin.model import LinkKind

FIRST_RENDER_MINOR = 128
_LINK_KINDS = {2: LinkKind.PCIE, 11: LinkKind.XGMI}


class KfdLink(Struct, frozen=True, kw_only=True):
    """A way to another node; `weight` is the kernel's distance, None where it has none."""

    peer: int
    kind: LinkKind
    weight: int | None


class KfdNode(Struct, frozen=True, kw_only=True):
    """A GPU, or a partition of one, as KFD sees it; `domain` is None on kernels that lack it."""

    number: int
    domain: int | None
    bus: int
    slot: int
    function: int
    render_minor: int
    dies: int | None
    compute_units: int | None
    gfx_version: str | None
    hive: str | None
    memory_bytes: int | None = None

    def sits_at(self, address: str) -> bool:
        """Whether it belongs to the PCI device (any function) of `address`."""
        domain, bus, slot = _place(address)
        return bus == self.bus and slot == self.slot and self.domain in (None, domain)


@lru_cache(maxsize=1024)  # a look asks each node for each GPU's address
def _place(address: str) -> tuple[int, int, int]:
    """Domain, bus and slot of a PCI address."""
    domain, bus, rest = address.split(":")
    return int(domain, 16), int(bus, 16), int(rest.partition(".")[0], 16)


class Topology(Struct, frozen=True, kw_only=True):
    """All GPU nodes that can be read; `problems` name the files that cannot.

    `generation` is the kernel's count of rebuilds as it writes it, None where it cannot be read;
    `present` is false where the kernel has no KFD at all.
    """

    generation: str | None = None
    present: bool = True
    nodes: tuple[KfdNode, ...] = ()
    problems: tuple[str, ...] = ()

    def without_nodes(self, numbers: Iterable[int]) -> "Topology":
        """The topology without the nodes of these numbers."""
        taken = set(numbers)
        return replace(self, nodes=tuple(n for n in self.nodes if n.number not in taken))

    @property
    def why_missing(self) -> str:
        """The reason for a GPU or a partition that has no node here."""
        if not self.present:
            return f"the kernel shows no KFD: {TOPOLOGY}/nodes does not exist"
        if not self.problems:
            return f"{TOPOLOGY} has no node for it"
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return self.problems[0] + more

    @property
    def remedy(self) -> str:
        """What to do about a GPU or a partition that has no node here."""
        if self.problems:
            return "give the daemon the render nodes in its device cgroup; see docs/vendors/amd.md"
        if not self.present:
            return (
                "for ROCm use a kernel with CONFIG_HSA_AMD and a GPU that ROCm supports; graphics"
                " and video need no KFD"
            )
        return "if ROCm supports this GPU, look for kfd in the kernel log; otherwise do nothing"


# A full node has 700 such files, read at every look and the same at nearly all of them.
@lru_cache(maxsize=8192)
def parse_properties(text: str) -> Mapping[str, int]:
    """The `key value` lines of a properties file; lines of another form are left out."""
    pairs = (line.split() for line in text.splitlines())
    found = {pair[0]: parse_decimal(pair[1]) for pair in pairs if len(pair) == 2}
    return MappingProxyType({key: value for key, value in found.items() if value is not None})


def parse_gfx_version(number: int) -> str | None:
    """`gfx90a` for 90010: decimal major and hexadecimal minor and step; None for 0 (a CPU)."""
    if number <= 0:
        return None
    return f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}"


def parse_node(number: int, properties: Mapping[str, int]) -> KfdNode | None:
    """The GPU node of a properties file, None for a CPU node.

    `location_id` is bus << 8 | device << 3 | function, the function being the partition on GPUs
    with partitions (kfd_topology.c); `simd_count` over `simd_per_cu` is the number of CUs.
    """
    minor = properties.get("drm_render_minor", 0)
    simds = properties.get("simd_count", 0)
    if simds == 0 or minor < FIRST_RENDER_MINOR:
        return None
    location, hive = properties.get("location_id", 0), properties.get("hive_id", 0)
    return KfdNode(
        number=number,
        domain=properties.get("domain"),
        bus=location >> 8 & 0xFF,
        slot=location >> 3 & 0x1F,
        function=location & 7,
        render_minor=minor,
        dies=properties.get("num_xcc") or None,
        compute_units=simds // (properties.get("simd_per_cu") or 1),
        gfx_version=parse_gfx_version(properties.get("gfx_target_version", 0)),
        hive=f"{hive:016x}" if hive else None,
        memory_bytes=properties.get("size_in_bytes") or None,
    )


def parse_link(properties: Mapping[str, int]) -> KfdLink | None:
    """The link of a properties file, None for one that is neither XGMI nor PCIe."""
    kind, peer = _LINK_KINDS.get(properties.get("type", 0)), properties.get("node_to")
    if kind is None or peer is None:
        return None
    return KfdLink(peer=peer, kind=kind, weight=properties.get("weight") or None)


def nearest_links(links: Iterable[KfdLink]) -> tuple[KfdLink, ...]:
    """One link for each peer, the one of the smallest weight, in the order of the peers."""
    best: dict[int, KfdLink] = {}
    for link in links:
        if link.peer not in best or _cost(link) < _cost(best[link.peer]):
            best[link.peer] = link
    return tuple(best[peer] for peer in sorted(best))


def _cost(link: KfdLink) -> float:
    return float("inf") if link.weight is None else link.weight


def read_topology(host: Host) -> Topology:
    """Every GPU node; a node that cannot be read becomes a problem, never an exception.

    The kernel answers EPERM for nodes whose render node the reader's device cgroup denies
    (kfd_devcgroup_check_permission), so an unprivileged container may see a part only.
    """
    nodes, problems = [], []
    try:
        names = host.read_names(f"{TOPOLOGY}/nodes")
    except DiscoveryError as error:
        return Topology(problems=(str(error),))
    if not names:
        return Topology(present=False)
    for number in sorted(n for name in names if (n := parse_decimal(name)) is not None):
        try:
            node = _read_node(host, number)
        except DiscoveryError as error:
            problems.append(str(error))
        else:
            nodes += [node] if node else []
    return Topology(generation=read_generation(host), nodes=tuple(nodes), problems=tuple(problems))


def read_generation(host: Host) -> str | None:
    """The kernel's count of rebuilds as it writes it, None where it cannot be read."""
    try:
        return host.read_text(f"{TOPOLOGY}/generation_id")
    except DiscoveryError:
        return None


def _read_node(host: Host, number: int) -> KfdNode | None:
    base = f"{TOPOLOGY}/nodes/{number}"
    properties = dict(parse_properties(host.read_text(f"{base}/properties") or ""))
    if properties.get("simd_count"):
        bank = host.read_text(f"{base}/mem_banks/0/properties") or ""
        properties["size_in_bytes"] = parse_properties(bank).get("size_in_bytes", 0)
    return parse_node(number, properties)


def read_links(host: Host, number: int) -> tuple[KfdLink, ...]:
    """The links of a node, direct and indirect (`p2p_links`); an unreadable one is left out."""
    found = []
    for folder in ("io_links", "p2p_links"):
        base = f"{TOPOLOGY}/nodes/{number}/{folder}"
        try:
            texts = [host.read_text(f"{base}/{n}/properties") for n in host.read_names(base)]
        except DiscoveryError:
            continue
        found += [link for text in texts if (link := parse_link(parse_properties(text or "")))]
    return nearest_links(found)
