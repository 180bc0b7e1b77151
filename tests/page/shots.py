"""The pictures of the documents, made by a headless Chromium: `make screenshots`."""

import sys
import tempfile
from pathlib import Path

from tests.page.browser import browser
from tests.page.test_browser import Node

IMAGES = Path(__file__).parents[2] / "docs/images"
SIZE = (1200, 1080)


def main(folder: Path) -> None:
    """The page of a node whose values are invented, and stand still."""
    node = Node()
    try:
        with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch)) as tab:
            tab.look(*SIZE, "light")
            tab.open(node.url)
            tab.shot(folder / "page.png")
    finally:
        node.server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
