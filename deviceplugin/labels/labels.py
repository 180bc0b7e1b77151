"""Node labels that say how strongly the containers of each resource are isolated; pure."""

from collections.abc import Mapping

from deviceplugin.resources.plan import Resources

SUFFIX = ".isolation"


def isolation_labels(resources: Resources) -> Mapping[str, str]:
    """`<resource>.isolation` to its level, for instance `nvidia.com/gpu.isolation: hardware`.

    A label whose name would be longer than 63 characters is left out.
    """
    return {
        f"{name}{SUFFIX}": str(resource.isolation)
        for name, resource in sorted(resources.items())
        if len(name.partition("/")[2]) + len(SUFFIX) <= 63
    }
