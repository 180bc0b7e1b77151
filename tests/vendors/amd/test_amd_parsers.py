"""The parsers of text: what they make of the kernel's words, and of any others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deviceplugin.model import LinkKind
from deviceplugin.vendors.amd.frame_buffers import parse_bar_bytes, parse_settings, share_bytes
from deviceplugin.vendors.amd.gpus import parse_unique_id
from deviceplugin.vendors.amd.kfd import (
    KfdLink,
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
