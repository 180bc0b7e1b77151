"""Quantities of memory: every unit by its value, and what is none."""

import pytest

from deviceplugin.schema import Instance, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1B", 1),
        ("2K", 2_000),
        ("2KB", 2_000),
        ("3M", 3_000_000),
        ("4GB", 4_000_000_000),
        ("5T", 5_000_000_000_000),
        ("2Ki", 2_048),
        ("2KiB", 2_048),
        ("3Mi", 3 << 20),
        ("5GiB", 5 << 30),
        ("1TiB", 1 << 40),
        ("1.5GiB", 3 << 29),
        (" 7 MiB ", 7 << 20),
        ("0.5Ki", 512),
        ("9007199254740993", (1 << 53) + 1),
        ("1048576TiB", 1 << 60),
    ],
)
def test_a_size_is_read_by_its_unit(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "5 G iB", "5gb", "5KX", "5P", "-5GiB", "1e3", ".5GiB", "5.GiB", "5,5GiB", "5GiBs"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a memory size such as 5GiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["0", "0GiB", "0.4"])
def test_a_size_of_zero_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a memory size of zero"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["1048577TiB", "1152921504606846977"])
def test_a_size_that_no_node_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="above 1024 PiB"):
        parse_bytes(text)


def test_an_instance_knows_its_bytes() -> None:
    assert Instance(name="a", memory="5GiB").memory_bytes == 5 << 30
    with pytest.raises(ValueError, match=r"^memory: a size above zero such as 5GiB$"):
        Instance(name="a", memory="0")
