"""What of the documentation is made from the sections; run it to make it again."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from deviceplugin.cli.describe import keys_table, schema_document
from deviceplugin.discovery.registry import load_vendors
from tests.docs.mechanisms import mechanisms_table

ROOT = Path(__file__).parents[2]
VENDORS = ("nvidia", "amd", "intel")  # ours: one of a third party may be installed beside them
BEGIN, END = "<!-- made by `make sections` -->\n", "<!-- until here -->\n"


def generated() -> Mapping[Path, str]:
    """The files with their content."""
    schema = json.dumps(schema_document(load_vendors(VENDORS)), indent=1) + "\n"
    return {
        ROOT / "docs/schema/configuration.schema.json": schema,
        **_page("docs/documents.md", keys_table()),
        **_page("docs/sharing.md", mechanisms_table()),
    }


def _page(name: str, table: str) -> Mapping[Path, str]:
    """A page with the table in its place."""
    page, made = ROOT / name, f"{BEGIN}\n{table}\n{END}"
    pattern = f"(?s){re.escape(BEGIN)}.*{re.escape(END)}"
    return {page: re.sub(pattern, lambda _: made, page.read_text())}


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
