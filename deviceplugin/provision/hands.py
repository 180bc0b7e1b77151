"""The vendors' hands: the module `partitioning` beside a vendor's own, imported here alone."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.vendor import Sections
from deviceplugin.vendor.partitions import PartitionedGpu, Partitioner


def partitioners(
    modules: Mapping[str, str], host: Host, sections: Sections
) -> Iterator[tuple[str, Partitioner]]:
    """The hands of the vendors that have some; `modules` are those of the vendors by name."""
    for name, module in modules.items():
        beside = f"{module}.partitioning"
        try:
            found = find_spec(beside)
        except ModuleNotFoundError:  # the vendor is one file and no package
            found = None
        if found is not None:
            yield name, cast("Partitioner", import_module(beside).partitioner(host, sections))


def read_node(
    hands: Mapping[str, Partitioner],
) -> tuple[Sequence[PartitionedGpu], Mapping[str, str]]:
    """All GPUs, and by vendor why they could not be read."""
    gpus: list[PartitionedGpu] = []
    problems: dict[str, str] = {}
    for name, partitioner in hands.items():
        try:
            gpus += partitioner.read()
        except VendorError as error:
            problems[name] = str(error)
        finally:
            partitioner.close()
    return gpus, problems
