"""Whether MPS can be had as it is configured, told before anything is served."""

import os
from collections.abc import Iterator

from deviceplugin.config.config import Config
from deviceplugin.errors import ConfigError
from deviceplugin.resources.plan import sharing_of

PROGRAM = "/usr/bin/nvidia-cuda-mps-control"


def find_control(config: Config) -> str | None:
    """The MPS control program as this process runs it, None where no rule needs it.

    Raises ConfigError where a rule shares through MPS and the program is not to be had.
    """
    sharing = sharing_of(config.sections)
    if not sharing.uses_mps:
        return None
    places = [sharing.mps.control] if sharing.mps.control else list(dict.fromkeys(_places(config)))
    found = next((place for place in places if os.access(place, os.X_OK)), None)
    if found is None:
        expected = (
            "the program nvidia-cuda-mps-control of the NVIDIA driver, as a rule says sharing: mps;"
            f" there is none at {' or '.join(places)}"
        )
        raise ConfigError("sharing.mps.control", sharing.mps.control, expected)
    return found


def _places(config: Config) -> Iterator[str]:
    """Our own tree and the driver's: a container sees the latter below the host's root."""
    roots = ["/", getattr(config.sections.get("nvidia"), "driver_root", "/"), "/run/nvidia/driver"]
    yield PROGRAM
    for root in dict.fromkeys(roots):
        yield str(config.host_root / f"{root}{PROGRAM}".lstrip("/"))
