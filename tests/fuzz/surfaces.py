"""All surfaces by name."""

from collections.abc import Mapping

from tests.fuzz import (
    calls,
    conditions,
    configuration,
    learned,
    nodes,
    nvml,
    outputs,
    peers,
    scrapes,
    state,
    texts,
)
from tests.fuzz.surface import Surface

MODULES = (
    *(
        texts,
        nodes,
        nvml,
        configuration,
        conditions,
        state,
        peers,
        scrapes,
        calls,
        outputs,
        learned,
    ),
)

SURFACES: Mapping[str, Surface] = {
    name: surface for module in MODULES for name, surface in module.SURFACES.items()
}
