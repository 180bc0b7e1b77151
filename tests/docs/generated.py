"""What of the documentation is made from the sections; run it to make it again."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from deviceplugin.cli.describe import keys_table, schema_document
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.page.made import schema as status_schema
from tests.docs.manual import manual
from tests.docs.mechanisms import mechanisms_table
from tests.docs.test_docs import KEYS

ROOT = Path(__file__).parents[2]
VENDORS = ("nvidia", "amd", "intel")  # ours: one of a third party may be installed beside them
NEW = "what it does"  # for a person to replace
BEGIN, END = "<!-- made by `make sections` -->\n", "<!-- until here -->\n"


def configuration_tables(text: str, defaults: Mapping[str, str]) -> str:
    """The page with the tables of keys as the sections are: their keys with today's defaults, each
    with the meaning that the page gives it; a new key has NEW there, and a key that is gone no row.
    A key that the page describes elsewhere stays there.
    """
    described = set(re.findall(r"(?m)^\| `([\w.\[\]]+)` \|", text))
    sections = {key.partition(".")[0] for key in defaults}

    def rows(match: re.Match[str]) -> str:
        lines, mine = [], set()
        for line in match[2].splitlines():
            key = line.split("`")[1]
            head = key.partition(".")[0]
            if head not in sections:  # a table for people alone
                lines.append(line)
            elif key in defaults:
                lines.append(f"| `{key}` | {_default(defaults[key])} | {line.split(' | ', 2)[2]}")
                mine.add(head)
        new = [key for key in defaults if key not in described and key.partition(".")[0] in mine]
        lines += [f"| `{key}` | {_default(defaults[key])} | {NEW} |" for key in new]
        return match[1] + "".join(f"{line}\n" for line in lines)

    return re.sub(r"(?m)^(\| Key \| Default \| Meaning \|\n\|[-|]+\n)((?:\|.*\n)+)", rows, text)


def _default(value: str) -> str:
    return value if value in ("required", "unset") else f"`{value}`"


def generated() -> Mapping[Path, str]:
    """The files with their content."""
    own = ROOT / "docs/configuration.md"
    schema = json.dumps(schema_document(load_vendors(VENDORS)), indent=1) + "\n"
    return {
        ROOT / "docs/schema/configuration.schema.json": schema,
        ROOT / "docs/schema/status.schema.json": status_schema(),
        ROOT / "deviceplugin/cli/deviceplugin.1": manual(),
        **_page("docs/documents.md", keys_table()),
        **_page("docs/sharing.md", mechanisms_table()),
        own: configuration_tables(own.read_text(), dict(KEYS)),
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
