"""The YAML that configuration may use, in process."""

from typing import Any

import pytest

from deviceplugin.config.yaml import MAX_NUMBER, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1", {"a": 1}),
        ("a: 2001-02-03", {"a": "2001-02-03"}),
        ("a: 2001-02-03T04:05:06Z", {"a": "2001-02-03T04:05:06Z"}),
        ("a: 1.5", {"a": 1.5}),
        (f"a: {'1' * MAX_NUMBER}", {"a": int("1" * MAX_NUMBER)}),
        (f"a: x{'1' * MAX_NUMBER}", {"a": "x" + "1" * MAX_NUMBER}),
        ("a: {b: 1}\nc: {b: 2}", {"a": {"b": 1}, "c": {"b": 2}}),
        ('a: "\\u00e9"', {"a": "é"}),
    ],
)
def test_plain_values_are_read(text: str, value: Any) -> None:
    assert parse_yaml(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x", "line 2, column 4: alias *x is not allowed"),
        ("a: 1\na: 2", "line 1, column 1: key 'a' is there twice"),
        ("a: {1: x, 1: y}", "line 1, column 4: key '1' is there twice"),
        ("a: !!int text", "line 1, column 4: it is not a valid int"),
        ("a: !!bool text", "line 1, column 4: it is not a valid bool"),
        (f"a: {'1' * (MAX_NUMBER + 1)}", "a number of more than 100 characters"),
        (f"a: 0.{'1' * MAX_NUMBER}", "a number of more than 100 characters"),
        ('a: "\\0"', "line 1, column 4: a character that text cannot have"),
        ('a: "\\ud800"', "line 1, column 4: a character that text cannot have"),
        ('a: "\\udfff"', "line 1, column 4: a character that text cannot have"),
        ('"\\0": a', "line 1, column 1: a character that text cannot have"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!python/object:os.system x", "line 1, column 4: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins here"),
        ("a:\n\t- b", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: [", "line 1, column 5: "),
    ],
)
def test_anything_else_is_one_line_that_says_where(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"\A.*\Z") as refused:
        parse_yaml(text.encode())
    assert reason in str(refused.value)
    assert "byte string" not in str(refused.value)
