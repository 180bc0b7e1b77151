"""All surfaces by name."""

from collections.abc import Mapping

from tests.fuzz import calls, conditions, configuration, nodes, nvml, peers, scrapes, state, texts
from tests.fuzz.surface import Surface

SURFACES: Mapping[str, Surface] = {
    name: surface
    for module in (texts, nodes, nvml, configuration, conditions, state, peers, scrapes, calls)
    for name, surface in module.SURFACES.items()
}
