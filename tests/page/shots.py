"""The picture of a fleet's page, by a headless Chromium: `make screenshots`."""

import sys
import tempfile
from pathlib import Path

from deviceplugin.fleet.page import fleet_page
from deviceplugin.fleet.plan import Asked, WhatIf, report_document
from tests.fleet.examples import answers, fleet, priced
from tests.page.browser import browser

IMAGES = Path(__file__).parents[2] / "docs/images"
SIZE = (1200, 1080)


def fleet_html() -> str:
    document = report_document(fleet(answers()), Asked(accuracy=95.0), WhatIf())
    return fleet_page(priced() | document)


def main(folder: Path) -> None:
    """Of a fleet whose values are invented and stand still: two runs give the same bytes."""
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch)) as tab:
        tab.look(*SIZE, "light")
        page = Path(scratch) / "fleet.html"
        page.write_text(fleet_html(), encoding="utf-8")
        tab.open(page.as_uri(), scripts=False)
        tab.shot(folder / "fleet.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
