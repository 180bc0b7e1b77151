"""How the daemon looks ahead: by the command, with the files of its section."""

import sys
from collections.abc import Sequence

from deviceplugin.config.config import Config
from deviceplugin.schema import section_of

DEADLINE_S = 300.0


async def look_ahead(config: Config) -> tuple[bytes, int]:
    """What the command printed, and its exit status; raises DevicePluginError, OSError."""
    from deviceplugin.runtime.commands import printed  # noqa: PLC0415  # where it is on

    done = await printed(maintenance_command(config), DEADLINE_S)
    return done.text, done.status


def maintenance_command(config: Config) -> Sequence[str]:
    """The command line that asks this daemon, reads its history and prints what may fail."""
    from deviceplugin.documents.maintenance import PredictiveMaintenance  # noqa: PLC0415  # if on

    section = section_of(config.sections, "predictive_maintenance", PredictiveMaintenance)
    given = {"fleet": section.fleet, "signs": section.signs, "days": section.window_days}
    return (
        *(sys.executable, "-P", "-m", "deviceplugin", "maintenance", "show", "--format=json"),
        f"--state-dir={config.state_dir}",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
    )
