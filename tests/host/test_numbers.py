"""Numbers of the kernel, and what only looks like one."""

import pytest

from deviceplugin.host.numbers import numbered, parse_decimal, parse_hexadecimal, parse_integer


@pytest.mark.parametrize(
    ("text", "decimal", "hexadecimal", "integer"),
    [
        ("0", 0, 0, 0),
        ("18446744073709551615", 2**64 - 1, None, 2**64 - 1),
        ("0x1F", None, 31, 31),
        ("0010", 10, 16, 10),
        ("-1", None, None, -1),
        ("ff", None, 255, None),
        ("²", None, None, None),
        ("٣", None, None, None),
        ("1_0", None, None, None),
        ("", None, None, None),
        ("9" * 5000, None, None, None),
        ("0x" + "f" * 17, None, None, None),
    ],
)
def test_a_number_is_what_the_kernel_writes(
    text: str, decimal: int | None, hexadecimal: int | None, integer: int | None
) -> None:
    assert parse_decimal(text) == decimal
    assert parse_hexadecimal(text) == hexadecimal
    assert parse_integer(text) == integer


def test_names_are_in_the_order_of_their_numbers() -> None:
    names = ("vf10", "vf2", "vf", "vf²", "card1", "vf0")
    assert numbered(names, "vf") == ((0, "vf0"), (2, "vf2"), (10, "vf10"))
