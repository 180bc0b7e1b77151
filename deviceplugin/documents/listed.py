"""What users' lists of instances ask to be made, as layouts of partitions; pure.

What is wrong with a list is told by its own section: here it makes no layout.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from deviceplugin.names import profile_of
from deviceplugin.schema import MadeInstance

Raw = dict[str, Any]


class _Instance(MadeInstance, frozen=True, forbid_unknown_fields=False):
    """Of any vendor."""


def with_listed(raw: Raw) -> Raw:
    """The configuration with the layouts of its lists after its own, which so come first."""
    own = raw.get("partitions")
    layouts = list(_layouts(raw))
    if not layouts or not isinstance(own, list | None):
        return raw
    return {**raw, "partitions": [*(own or ()), *layouts]}


def _layouts(raw: Raw) -> Iterator[Raw]:
    instances = [(profile_of(name), count) for name, _, count in _listed(raw, "mig")]
    wish = {profile: count for profile, count in instances if profile is not None}
    if wish and len(wish) == len(instances):
        yield {"select": {"vendor": "nvidia"}, "mig": wish}
    for section, vendor in (("mxgpu", "amd"), ("intel_xe", "intel")):
        for _, memory, count in _listed(raw, section):
            functions = {"count": count, "memory": memory}
            yield {"select": {"vendor": vendor}, "virtual_functions": functions}


def _listed(raw: Raw, name: str) -> list[tuple[str, str, int]]:
    """Name, memory and count of what a section wants to be made; none where one is wrong."""
    section = raw.get(name)
    if not isinstance(section, Mapping) or section.get("enabled") is False:
        return []
    instances = section.get("instances")
    if section.get("provision") is not True or not isinstance(instances, list):
        return []
    try:
        found = msgspec.convert(instances, list[_Instance])
    except msgspec.ValidationError:
        return []
    return [(one.name, one.memory, one.count) for one in found]
