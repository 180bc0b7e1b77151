"""Readings of a PCI function that show trouble, whatever its vendor: bus, link, temperature.

Sources: Documentation/ABI/testing/sysfs-bus-pci(-devices-aer_stats), Documentation/hwmon.
"""

import re
from dataclasses import dataclass

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host
from deviceplugin.host.numbers import parse_decimal
from deviceplugin.host.pci import DEVICES
from deviceplugin.names import one_line

MAX_LABEL = 40
_OFF_THE_BUS = b"\xff\xff\xff\xff"
_TEMPERATURE = re.compile(r"temp([0-9]+)_input")


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """A sensor and its limits in millidegrees Celsius, None where it has none."""

    name: str
    value: int
    critical: int | None = None
    emergency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What can be read of one function now; None is unknown."""

    answers: bool | None = None
    width: int | None = None
    max_width: int | None = None
    fatal_errors: int | None = None
    nonfatal_errors: int | None = None
    temperatures: tuple[Temperature, ...] = ()


def read_hardware(host: Host, address: str) -> Readings:
    """All readings of the function; a file that cannot be read is an unknown reading."""
    path = f"{DEVICES}/{address}"
    return Readings(
        answers=_read_answers(host, f"{path}/config"),
        width=_number(host, f"{path}/current_link_width"),
        max_width=_number(host, f"{path}/max_link_width"),
        fatal_errors=_read_total(host, f"{path}/aer_dev_fatal", "TOTAL_ERR_FATAL"),
        nonfatal_errors=_read_total(host, f"{path}/aer_dev_nonfatal", "TOTAL_ERR_NONFATAL"),
        temperatures=_read_temperatures(host, f"{path}/hwmon"),
    )


def _read_answers(host: Host, path: str) -> bool | None:
    """A function that fell off the bus reads as ones."""
    try:
        start = host.read_bytes(path, len(_OFF_THE_BUS))
    except DiscoveryError:
        return None
    return None if not start else start != _OFF_THE_BUS


def _read_total(host: Host, path: str, name: str) -> int | None:
    for line in (_text(host, path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return parse_decimal(value.strip())
    return None


def _read_temperatures(host: Host, path: str) -> tuple[Temperature, ...]:
    found = []
    for monitor in _names(host, path):
        for file in _names(host, f"{path}/{monitor}"):
            match = _TEMPERATURE.fullmatch(file)
            sensor = f"{path}/{monitor}/temp{match[1]}" if match else ""
            value = _number(host, f"{sensor}_input") if match else None
            if value is not None:
                found.append(_temperature(host, sensor, value))
    return tuple(found)


def _temperature(host: Host, sensor: str, value: int) -> Temperature:
    return Temperature(
        name=one_line(_text(host, f"{sensor}_label") or sensor.rpartition("/")[2], MAX_LABEL),
        value=value,
        critical=_number(host, f"{sensor}_crit"),
        emergency=_number(host, f"{sensor}_emergency"),
    )


def _names(host: Host, path: str) -> tuple[str, ...]:
    try:
        return host.read_names(path)
    except DiscoveryError:
        return ()


def _text(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path)
    except DiscoveryError:
        return None


def _number(host: Host, path: str) -> int | None:
    try:
        return host.read_int(path)
    except DiscoveryError:
        return None
