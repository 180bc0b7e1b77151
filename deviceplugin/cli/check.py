"""`deviceplugin check --node`: what a configuration comes to on this node."""

from collections.abc import Iterator, Mapping
from typing import Any

from deviceplugin.config.config import Config
from deviceplugin.host import Host
from deviceplugin.resources.methods import absent_programs
from deviceplugin.resources.plan import sharing_of


def node_remarks(config: Config, report: Mapping[str, Any]) -> Iterator[str]:
    """What is absent on this node and which rules come to nothing, one line each; `report` is
    that of `discover`. Nothing of it is an error: a fleet has one file."""
    for vendor in report["vendors"]:
        if vendor["error"] and vendor["name"] in (config.vendors or ()):
            yield f"vendors: {vendor['name']}: {vendor['error']}"
        yield from (f"{vendor['name']}: {note}" for note in vendor["notes"])
    yield from absent_programs(sharing_of(config.sections), Host(config.host_root), config.sections)
    for rule in report["unused_rules"]:
        yield f"{rule['rule']}: {rule['reason']}"
    for problem in report["problems"]:
        yield f"{problem['resource']} is not offered: {problem['reason']}"
