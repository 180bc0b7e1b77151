"""What texts of a configuration mean: sizes to the byte, and YAML without surprises."""

import pytest

from deviceplugin.config.yaml import MAX_NUMBER, parse_yaml
from deviceplugin.schema import parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("7", 7),
        ("7B", 7),
        ("1K", 1000),
        ("1KB", 1000),
        ("3M", 3_000_000),
        ("4GB", 4_000_000_000),
        ("2T", 2_000_000_000_000),
        ("1Ki", 1024),
        ("1MiB", 1 << 20),
        ("5Gi", 5 << 30),
        ("2TiB", 2 << 40),
        ("1.5GiB", 3 << 29),
        ("0.5KB", 500),
        (" 512 MiB ", 512 << 20),
        ("1048576TiB", 1 << 60),
    ],
)
def test_a_size_is_exact(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a memory size"),
        ("-1", "is not a memory size"),
        ("5 Giraffes", "is not a memory size"),
        ("1e3", "is not a memory size"),
        ("0", "a memory size of zero"),
        ("0.0001Ki", "a memory size of zero"),
        ("1152921504606846977", "above 1024 PiB"),
    ],
)
def test_what_is_no_size_is_refused_with_the_text(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_bytes(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2024-05-01", {"a": "2024-05-01"}),
        ("a: 2024-05-01T10:00:00Z", {"a": "2024-05-01T10:00:00Z"}),
        ("a: 7", {"a": 7}),
        ("a: 0.5", {"a": 0.5}),
        ("a: true", {"a": True}),
        ("a: [1, {b: c}]", {"a": [1, {"b": "c"}]}),
        ("a: " + "1" * MAX_NUMBER, {"a": int("1" * MAX_NUMBER)}),
        ("a: " + "x" * (MAX_NUMBER + 1), {"a": "x" * (MAX_NUMBER + 1)}),
        ('a: "\\u00e9\\ue000"', {"a": "\u00e9\ue000"}),
        ("", None),
    ],
    ids=["date", "time", "number", "float", "truth", "nested", "digits", "text", "ends", "empty"],
)
def test_yaml_is_plain_values(text: str, value: object) -> None:
    found = parse_yaml(text.encode())
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('a: "x\\0y"', "a character that text cannot have"),
        ('a: "x\\ud800y"', "a character that text cannot have"),
        ('a: "\\udfff"', "a character that text cannot have"),
        ("a: " + "1" * (MAX_NUMBER + 1), f"a number of more than {MAX_NUMBER} characters"),
        ("a: 1." + "1" * MAX_NUMBER, f"a number of more than {MAX_NUMBER} characters"),
        ("a: &x [1]\nb: *x", r"alias \*x is not allowed"),
        ("a: 1\nb: 2\na: 3", "key 'a' is there twice"),
        ("a: {b: 1, b: 1}", "key 'b' is there twice"),
        ("a: !!int text", "it is not a valid int"),
        ("a: !!bool text", "it is not a valid bool"),
        ("[" * 5000, "it is nested too deeply"),
        ("a: [", "expected"),
    ],
    ids=[
        "NUL",
        "surrogate",
        "last surrogate",
        "digits",
        "decimals",
        "alias",
        "twice",
        "twice below",
        "int",
        "bool",
        "deep",
        "unfinished",
    ],
)
def test_what_configuration_cannot_hold_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        parse_yaml(text.encode())
    assert "\n" not in str(caught.value)
