"""The parsers of text: what they make of the kernel's words, and of any others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.model import LinkKind
from deviceplugin.vendors.amd.frame_buffers import parse_bar_bytes, parse_settings, share_bytes
from deviceplugin.vendors.amd.gpus import parse_unique_id
from deviceplugin.vendors.amd.kfd import (
    KfdLink,
    KfdNode,
    Topology,
    nearest_links,
    parse_gfx_version,
    parse_link,
    parse_node,
    parse_properties,
)

bounded = settings(max_examples=100, deadline=None)
LINES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.tuples(
            st.sampled_from(["simd_count", "drm_render_minor", "location_id", "hive_id", "domain"]),
            st.integers(-1, 2**64),
        ).map(lambda pair: f"{pair[0]} {pair[1]}"),
    ),
    max_size=8,
).map("\n".join)


@bounded
@given(LINES)
def test_any_properties_parse_to_a_node_with_a_place_or_to_none(text: str) -> None:
    node = parse_node(1, parse_properties(text))
    if node is not None:
        assert (0 <= node.bus < 256, 0 <= node.slot < 32, 0 <= node.function < 8) == (True,) * 3
        assert node.render_minor >= 128
        assert node.sits_at(f"{node.domain or 0:04x}:{node.bus:02x}:{node.slot:02x}.0")


@bounded
@given(LINES)
def test_any_link_text_parses_to_a_link_or_to_none(text: str) -> None:
    link = parse_link(parse_properties(text + "\ntype 11"))
    assert link is None or link.kind is LinkKind.XGMI


@bounded
@given(st.text(max_size=40))
def test_any_unique_id_is_16_digits_or_none(text: str) -> None:
    parsed = parse_unique_id(text)
    assert parsed is None or (len(parsed) == 16 and int(parsed, 16) > 0)


@bounded
@given(st.text(max_size=60))
def test_any_text_of_gim_or_a_bar_is_survived(text: str) -> None:
    assert all(value >= 0 for value in parse_settings(text).values())
    size = parse_bar_bytes(text)
    assert size is None or size > 1


@bounded
@given(st.integers(1, 512), st.integers(0, 4096), st.integers(1, 31))
def test_shares_fit_into_what_the_reserve_leaves(gib: int, reserve: int, count: int) -> None:
    total, kept = gib << 30, reserve << 20
    assert share_bytes(total, kept, count) * count <= max(total - kept, 0)


@pytest.mark.parametrize(
    ("number", "name"),
    [(90010, "gfx90a"), (90402, "gfx942"), (110000, "gfx1100"), (100302, "gfx1032"), (0, None)],
)
def test_the_gfx_version_has_the_compilers_name(number: int, name: str | None) -> None:
    assert parse_gfx_version(number) == name


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("1901ead3a2ecd4a6", "1901ead3a2ecd4a6"),
        ("0x1901EAD3A2ECD4A6", "1901ead3a2ecd4a6"),
        ("ead3a2ecd4a6", "0000ead3a2ecd4a6"),
        ("0000000000000000", None),
        ("", None),
        (None, None),
    ],
)
def test_a_unique_id_is_normal_or_absent(text: str | None, parsed: str | None) -> None:
    assert parse_unique_id(text) == parsed


def test_a_cpu_node_is_no_gpu() -> None:
    assert parse_node(0, parse_properties("cpu_cores_count 64\nsimd_count 0")) is None


def test_old_kernels_lack_domain_and_hive() -> None:
    text = "simd_count 256\nsimd_per_cu 4\nlocation_id 6400\ndrm_render_minor 128"
    node = parse_node(1, parse_properties(text))
    assert node is not None
    assert (node.domain, node.hive, node.gfx_version, node.compute_units) == (None, None, None, 64)
    assert node.sits_at("0001:19:00.0")


def test_the_nearest_of_two_ways_to_a_peer_counts() -> None:
    near = KfdLink(peer=2, kind=LinkKind.XGMI, weight=15)
    far = KfdLink(peer=2, kind=LinkKind.PCIE, weight=72)
    unknown = KfdLink(peer=2, kind=LinkKind.PCIE, weight=None)
    assert nearest_links([far, near, unknown]) == nearest_links([unknown, near, far]) == (near,)


def test_gims_settings_are_decimal_or_hexadecimal() -> None:
    assert parse_settings("a:\n\ttotal_vf_num = 8\n\tpf.fb_size = 0x100\nx = y") == {
        "total_vf_num": 8,
        "pf.fb_size": 256,
    }


def test_an_unused_bar_has_no_size() -> None:
    assert parse_bar_bytes("0x0000000000000000 0x0000000000000000 0x0000000000000000") is None


# location_id 0xc122: bus 0xc1, slot 4, function 2; simd_count / simd_per_cu compute units.
WHOLE = """simd_count 1216
simd_per_cu 4
num_xcc 8
location_id 49442
domain 1
drm_render_minor 130
hive_id 66
gfx_target_version 90402
size_in_bytes 206158430208
unknown
"""


def test_a_node_is_all_that_its_properties_say() -> None:
    assert parse_node(7, parse_properties(WHOLE)) == KfdNode(
        number=7,
        domain=1,
        bus=0xC1,
        slot=4,
        function=2,
        render_minor=130,
        dies=8,
        compute_units=304,
        gfx_version="gfx942",
        hive="0000000000000042",
        memory_bytes=206158430208,
    )


@pytest.mark.parametrize(
    ("minor", "there"), [(127, False), (128, True)], ids=["a card's minor", "the first render"]
)
def test_a_gpu_has_a_render_node(minor: int, *, there: bool) -> None:
    text = f"simd_count 4\ndrm_render_minor {minor}"
    assert (parse_node(1, parse_properties(text)) is not None) is there


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("0001:c1:04.2", True),
        ("0001:c1:04.0", True),
        ("0000:c1:04.2", False),
        ("0001:c2:04.2", False),
        ("0001:c1:05.2", False),
    ],
    ids=["itself", "another function", "domain", "bus", "slot"],
)
def test_a_node_sits_at_the_device_of_its_address(address: str, *, same: bool) -> None:
    node = parse_node(7, parse_properties(WHOLE))
    assert node is not None
    assert node.sits_at(address) is same


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("type 11\nnode_to 3\nweight 15", KfdLink(peer=3, kind=LinkKind.XGMI, weight=15)),
        ("type 2\nnode_to 0\nweight 0", KfdLink(peer=0, kind=LinkKind.PCIE, weight=None)),
        ("type 1\nnode_to 3", None),
        ("type 11\nweight 15", None),
        ("node_to 3", None),
    ],
    ids=["XGMI", "PCIe without a weight", "another type", "no peer", "no type"],
)
def test_a_link_is_of_a_known_type_and_has_a_peer(text: str, link: KfdLink | None) -> None:
    assert parse_link(parse_properties(text)) == link


def test_links_are_in_the_order_of_their_peers() -> None:
    links = [KfdLink(peer=peer, kind=LinkKind.XGMI, weight=15) for peer in (5, 2, 9)]
    assert [link.peer for link in nearest_links(links)] == [2, 5, 9]


@pytest.mark.parametrize(
    ("topology", "why", "remedy"),
    [
        (Topology(present=False), "the kernel shows no KFD", "CONFIG_HSA_AMD"),
        (Topology(), "has no node for it", "look for kfd in the kernel log"),
        (Topology(problems=("a: EPERM",)), "a: EPERM", "device cgroup"),
        (Topology(problems=("a: EPERM", "b", "c")), "a: EPERM (and 2 more)", "device cgroup"),
    ],
    ids=["no KFD", "no node", "one problem", "several"],
)
def test_why_a_node_is_missing_is_said_with_what_to_do(
    topology: Topology, why: str, remedy: str
) -> None:
    assert topology.why_missing.startswith(why) or topology.why_missing.endswith(why)
    assert remedy in topology.remedy


def test_a_topology_without_some_nodes_has_the_others() -> None:
    nodes = tuple(
        node for n in (1, 2, 3) if (node := parse_node(n, parse_properties(WHOLE))) is not None
    )
    left = Topology(nodes=nodes).without_nodes([2])
    assert [node.number for node in left.nodes] == [1, 3]
