"""Node labels that say how strongly the containers of each resource are isolated, and what holds
them to their part of the compute; pure."""

from collections.abc import Mapping

from deviceplugin.resources.plan import Resources

SUFFIX, COMPUTE = ".isolation", ".compute"


def isolation_labels(resources: Resources) -> Mapping[str, str]:
    """`<resource>.isolation` to its level, for instance `nvidia.com/gpu.isolation: hardware`, and
    `<resource>.compute` of those whose slices come with compute.

    A label whose name would be longer than 63 characters is left out.
    """
    return {
        f"{name}{SUFFIX}": str(resource.isolation)
        for name, resource in sorted(resources.items())
        if len(name.partition("/")[2]) + len(SUFFIX) <= 63
    } | {
        f"{name}{COMPUTE}": resource.compute
        for name, resource in sorted(resources.items())
        if resource.compute and len(name.partition("/")[2]) + len(COMPUTE) <= 63
    }
