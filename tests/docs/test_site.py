"""The site has the documents' own text, with links that hold there."""

from pathlib import Path

import pytest
import yaml

from tests.docs.site import BESIDE, ROOT, notes, page, pages

KNOWN = pages()


@pytest.mark.parametrize(
    ("source", "text", "there"),
    [
        ("README.md", "[a](docs/start.md)", "[a](start.md)"),
        ("README.md", "[a](docs/health.md#listed-or-not)", "[a](health.md#listed-or-not)"),
        ("docs/start.md", "[a](../README.md#try-it)", "[a](index.md#try-it)"),
        ("docs/vendors/amd.md", "[a](../health.md)", "[a](../health.md)"),
        ("docs/vendors/amd.md", "[`p`](../../deploy/p.yaml)", "`p` (`deploy/p.yaml`)"),
        ("docs/health.md", "[`tests/x.py`](../tests/x.py)", "`tests/x.py`"),
        (
            "docs/health.md",
            "[a](#here) [b](https://example.org)",
            "[a](#here) [b](https://example.org)",
        ),
        ("docs/performance.md", "![a](images/cost.svg)", "![a](images/cost.svg)"),
    ],
)
def test_links_lead_to_pages_and_files_are_names(source: str, text: str, there: str) -> None:
    assert page(text, Path(source), KNOWN) == there


def test_every_page_but_decisions_has_its_place_in_the_navigation() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def places(node: object) -> set[str]:
        if isinstance(node, str):
            return {node}
        items = node.values() if isinstance(node, dict) else node
        assert isinstance(items, (list, type({}.values())))
        return {place for item in items for place in places(item)}

    wanted = {str(place) for place in KNOWN.values() if place.parts[0] != "decisions"}
    assert places(settings["nav"]) == wanted | {"decisions/README.md"}
    assert set(BESIDE) == {path.name for path in ROOT.glob("*.md")}


def test_notes_are_a_versions_part_of_the_changelog() -> None:
    text = notes("Unreleased")
    assert text.startswith("### ")
    assert "\n## " not in text
    with pytest.raises(ValueError, match=r"no section \[9\.9\.9\]"):
        notes("9.9.9")
