"""`make docs`: gathers the documents for MkDocs below build/docs, and the notes of a release.

The documents link to each other and to files of the repository, as a reader there needs it. On the
site a file outside of the documents is no page: its link becomes the file's name.
"""

import argparse
import posixpath
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "build/docs"
# Pages that lie beside docs/.
BESIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def pages() -> dict[Path, Path]:
    """Each document with its place on the site, both relative."""
    found = {Path(name): Path(page) for name, page in BESIDE.items()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT)
        found[name] = name.relative_to("docs")
    return found


def page(text: str, source: Path, known: dict[Path, Path]) -> str:
    """The document's text with the links of the site."""
    here = known[source].parent

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if picture or ":" in target or target.startswith("#"):
            return _picture(match, here) if picture else match[0]
        path, _, anchor = target.partition("#")
        file = Path(posixpath.normpath(source.parent / path))
        if file not in known:
            return f"{words} (`{file}`)" if f"`{file}`" != words else words
        there = posixpath.relpath(known[file], here)
        return f"[{words}]({there}{'#' * bool(anchor)}{anchor})"

    return _LINK.sub(link, text)


def _picture(match: re.Match[str], here: Path) -> str:
    place = match[3].removeprefix("docs/")
    return f"![{match[2]}]({posixpath.relpath(place, here) if match[3] != place else place})"


def gather() -> None:
    """Write all pages and pictures."""
    shutil.rmtree(TARGET, ignore_errors=True)
    known = pages()
    for source, place in known.items():
        target = TARGET / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page((ROOT / source).read_text(), source, known))
    shutil.copytree(ROOT / "docs/images", TARGET / "images")


def notes(version: str) -> str:
    """What the changelog says of a version; ValueError where it has none."""
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(rf"(?ms)^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", text)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no section [{version}]")
    return found[1].strip() + "\n"


def main() -> None:
    """The pages, or the notes of `--notes VERSION` into dist/notes.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.site", description=__doc__)
    parser.add_argument("--notes", metavar="VERSION")
    version = parser.parse_args().notes
    if version is None:
        gather()
        return
    (ROOT / "dist").mkdir(exist_ok=True)
    (ROOT / "dist/notes.md").write_text(notes(version))


if __name__ == "__main__":
    main()
