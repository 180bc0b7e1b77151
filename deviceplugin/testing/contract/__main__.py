"""The command `python -m deviceplugin.testing.contract PACKAGE [--tree FILE]…`."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from deviceplugin.discovery.registry import installed_vendors
from deviceplugin.testing.contract.module import module_problems, tree_problems
from deviceplugin.vendor import CONTRACT, VendorModule

_HELP = """Check a vendor module against the contract; exit status 1 where it breaks it.

PACKAGE is a module that can be imported, or the name of an installed vendor. Each FILE is a node
with the vendor's hardware as text (deviceplugin.testing.tree).
"""


@click.command(help=_HELP)
@click.argument("package")
@click.option(
    "--tree",
    "trees",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A node to look at; may be given several times.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def main(package: str, trees: tuple[Path, ...], form: str) -> None:
    result = check(_load(package), trees)
    click.echo(json.dumps(result, indent=2) if form == "json" else text_of(result))
    sys.exit(0 if result["kept"] else 1)


def check(module: VendorModule, trees: tuple[Path, ...]) -> dict[str, Any]:
    """The problems of the module itself, then those on each tree while the module has none."""
    own = module_problems(module)
    found = [
        {"tree": str(tree), "problems": tree_problems(module, tree.read_text(encoding="utf-8"))}
        for tree in (() if own else trees)
    ]
    return {
        "vendor": getattr(module, "NAME", None),
        "contract": CONTRACT,
        "kept": not own and not any(one["problems"] for one in found),
        "problems": own,
        "trees": found,
    }


def text_of(result: dict[str, Any]) -> str:
    """The result for people: a line for each problem, then the verdict."""
    lines = list(result["problems"])
    lines += [f"{one['tree']}: {p}" for one in result["trees"] for p in one["problems"]]
    verdict = "keeps to" if result["kept"] else "breaks"
    lines.append(
        f"{result['vendor']} {verdict} contract {result['contract']}"
        f" (nodes looked at: {len(result['trees'])})"
    )
    return "\n".join(lines)


def _load(package: str) -> VendorModule:
    point = installed_vendors().get(package)
    try:
        module: VendorModule = point.load() if point else import_module(package)
    except ImportError as error:
        raise click.UsageError(f"{package}: {error}") from error
    return module


if __name__ == "__main__":
    main()
