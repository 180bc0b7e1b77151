"""A section by its schema: given, with its defaults, or another capability's."""

import pytest

from deviceplugin.schema import Scheduling, Section, section_of


class Example(Section, frozen=True):
    size: int = 3


def test_a_section_that_is_given_is_itself() -> None:
    given = Example(size=5)
    assert section_of({"example": given}, "example", Example) is given


@pytest.mark.parametrize("sections", [{}, {"example": None}], ids=["absent", "empty"])
def test_a_section_that_is_not_given_has_its_defaults(sections: dict[str, None]) -> None:
    assert section_of(sections, "example", Example) == Example(size=3)


def test_a_value_of_another_schema_is_an_error_that_names_both() -> None:
    with pytest.raises(TypeError, match="'example': Scheduling is not a Example"):
        section_of({"example": Scheduling()}, "example", Example)
