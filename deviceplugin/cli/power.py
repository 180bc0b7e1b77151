"""The flags --power and --power-weight of the commands about the cluster: what GPUs draw."""

import math
from typing import TYPE_CHECKING

from deviceplugin.cli.frame import parse_number
from deviceplugin.errors import ConfigError

if TYPE_CHECKING:
    from deviceplugin.scheduler.power import Draw, Power

MAX_WEIGHT = 10_000
MAX_WATTS = 100_000
_FORM = "MODEL=IDLE:FULL, watts of one GPU, the second the greater"


def parse_power(draws: str | None, weight: str) -> "Power":
    """Raises ConfigError."""
    from deviceplugin.scheduler.power import NO_POWER, Power  # noqa: PLC0415  # not a part of `run`

    number = parse_number(weight, "--power-weight")
    if number > MAX_WEIGHT:
        raise ConfigError("--power-weight", weight, f"a number from 0 to {MAX_WEIGHT}")
    if not draws:
        return NO_POWER
    return Power(weight=number, draws=dict(map(_draw, filter(None, draws.split(",")))))


def _draw(text: str) -> "tuple[str, Draw]":
    from deviceplugin.scheduler.power import Draw  # noqa: PLC0415  # not a part of `run`

    model, _, watts = text.strip().rpartition("=")
    try:
        idle, full = map(float, watts.split(":"))
    except ValueError:
        idle = full = math.nan
    if not model or not 0 <= idle < full <= MAX_WATTS:
        raise ConfigError("--power", text, _FORM)
    return model, Draw(idle, full)
