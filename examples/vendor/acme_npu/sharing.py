"""Sharing an NPU: the limits that a container is given, and Acme's own way to share one.

`acme-partd` (simulated here: any program that runs until it is ended) keeps the containers of one
NPU apart. A rule asks for it by `sharing: acme_part`.
"""

import os
from collections.abc import Sequence

import msgspec

from deviceplugin.api import (
    ContainerEdits,
    Device,
    Grant,
    Host,
    Isolation,
    Launch,
    Program,
    ResourceName,
    Section,
    Sections,
    Share,
    SharedResource,
    UnavailableError,
    frozen,
)

METHOD = "acme_part"
CORES = "ACME_CORES_PERCENT"  # what a rule may name as `variables`


class PartSettings(Section, frozen=True):
    """`sharing.acme_part`: the program, as the daemon runs it."""

    program: str = "/usr/bin/acme-partd"


class AcmePart:
    """The method: a program for each resource that is shared so."""

    TITLE = "Acme partitioning"
    DEVICES = "Acme NPUs"
    ADVICE = "see the log of acme-partd"
    SETTINGS: type[msgspec.Struct] = PartSettings

    def refusal(self, device: Device) -> str | None:
        """Every NPU can be shared."""
        return None

    def isolation(self, share: Share) -> Isolation:
        """acme-partd gives each container cores of its own; memory and faults are common."""
        return Isolation.PROCESS

    def prepare(self, host: Host, sections: Sections) -> Launch:
        """Find the program; raises UnavailableError while there is none: devices wait for it."""
        settings: PartSettings = getattr(sections["sharing"], METHOD)
        if not os.access(settings.program, os.X_OK):
            raise UnavailableError(f"there is no program at {settings.program}")
        return _Launch(settings.program)

    def edits(self, resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        """Where a container finds the program."""
        return ContainerEdits(env=frozen({"ACME_PART": f"{resource}"}))


class _Launch:
    def __init__(self, program: str) -> None:
        self._program = program

    def __call__(self, shared: SharedResource) -> Program:
        minors = ",".join(str(device.index) for device in shared.devices)
        env = frozen({"ACME_NPUS": minors, "PATH": "/usr/bin:/bin"})
        return Program(arguments=(self._program, "600"), env=env)


def limits_of(grants: Sequence[Grant]) -> ContainerEdits:
    """The part of each NPU, in percent, where the rule names the variable."""
    asked = [grant for grant in grants if CORES in grant.share.variables]
    values = ",".join(f"{grant.device.index}={grant.percent}" for grant in asked)
    return ContainerEdits(env=frozen({CORES: values} if asked else {}))
