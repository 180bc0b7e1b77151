"""The configuration section `runs`; pure."""

from collections.abc import Mapping
from typing import Any

from deviceplugin.schema import Section, section_of


class RunsSection(Section, frozen=True):
    """`enabled`: whether it is kept for 30 days how long each container held GPUs and what it used
    of them; `/runs` gives it to whoever may know pods."""

    enabled: bool = False


def runs_section(sections: Mapping[str, object]) -> RunsSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "runs", RunsSection)


SECTIONS: Mapping[str, Any] = {"runs": RunsSection}
