"""Readings of a PCI function that show trouble, whatever its vendor: bus, link, temperature.

Sources: Documentation/ABI/testing/sysfs-bus-pci(-devices-aer_stats), Documentation/hwmon.
"""

import re

from msgspec import Struct

from deviceplugin.errors import DiscoveryError
from deviceplugin.host.host import Host
from deviceplugin.host.numbers import parse_decimal
from deviceplugin.host.optional import optional_int, optional_names, optional_text
from deviceplugin.host.pci import DEVICES, is_address, read_pci_path
from deviceplugin.names import one_line

MAX_LABEL = 40
_OFF_THE_BUS = b"\xff\xff\xff\xff"
_TEMPERATURE = re.compile(r"temp([0-9]+)_input")
# No GPU is built to stop below or to work above these (vendors' limits are 80 to 130 degrees);
# firmware also writes 0, -273150 and 65535 where it has nothing to say.
COLDEST_LIMIT, HOTTEST = 60_000, 150_000


class Lanes(Struct, frozen=True, kw_only=True):
    """A PCIe link: lanes in use, lanes that both ends have; `address` is the lower end."""

    address: str
    width: int
    possible: int


class Temperature(Struct, frozen=True, kw_only=True):
    """A sensor and its limits in millidegrees Celsius, None where it has none that can be true."""

    name: str
    value: int
    critical: int | None = None
    emergency: int | None = None


class Readings(Struct, frozen=True, kw_only=True):
    """What can be read of one function now; None is unknown.

    `lanes` is the link on the way to the processor that has lost the most lanes.
    """

    answers: bool | None = None
    lanes: Lanes | None = None
    fatal_errors: int | None = None
    nonfatal_errors: int | None = None
    temperatures: tuple[Temperature, ...] = ()


def read_hardware(host: Host, address: str) -> Readings:
    """All readings of the function; a file that cannot be read is an unknown reading."""
    path = f"{DEVICES}/{address}"
    return Readings(
        answers=_read_answers(host, f"{path}/config"),
        lanes=_read_lanes(host, address),
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


def _read_lanes(host: Host, address: str) -> Lanes | None:
    """The link on the way with the smallest part of its lanes in use, of equal ones the lowest.

    A GPU with a switch of its own on the board (RDNA, Arc) has its full width there, whatever the
    slot has: every link counts. A slot with fewer lanes than the GPU is as its builder meant it.
    """
    bridges = _read_bridges(host, address)[::-1]
    # From the GPU up each lower end with its upper end; the bridges of one switch are no link.
    uppers: list[str | None] = [*bridges[::2]] or [None]
    ends = zip([address, *bridges[1::2]], uppers, strict=False)
    links = [_read_link(host, below, above) for below, above in ends]
    return min((link for link in links if link), key=_share, default=None)


def _read_bridges(host: Host, address: str) -> list[str]:
    try:
        path = read_pci_path(host, address) or ""
    except DiscoveryError:
        return []
    return [step for step in path.split("/")[:-1] if is_address(step)]


def _read_link(host: Host, below: str, above: str | None) -> Lanes | None:
    """The link between two functions, None where it has no width."""
    width = optional_int(host, f"{DEVICES}/{below}/current_link_width")
    ends = [optional_int(host, f"{DEVICES}/{end}/max_link_width") for end in (below, above) if end]
    possible = min((end for end in ends if end), default=None)
    return Lanes(address=below, width=width, possible=possible) if width and possible else None


def _share(lanes: Lanes) -> float:
    return lanes.width / lanes.possible


def _read_total(host: Host, path: str, name: str) -> int | None:
    for line in (optional_text(host, path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return parse_decimal(value.strip())
    return None


def _read_temperatures(host: Host, path: str) -> tuple[Temperature, ...]:
    found = []
    for monitor in optional_names(host, path):
        for file in optional_names(host, f"{path}/{monitor}"):
            match = _TEMPERATURE.fullmatch(file)
            sensor = f"{path}/{monitor}/temp{match[1]}" if match else ""
            value = optional_int(host, f"{sensor}_input") if match else None
            if value is not None and value < HOTTEST:
                found.append(_temperature(host, sensor, value))
    return tuple(found)


def _temperature(host: Host, sensor: str, value: int) -> Temperature:
    critical, emergency = (_limit(host, f"{sensor}_{name}") for name in ("crit", "emergency"))
    if critical and emergency and emergency < critical:
        emergency = None  # the later limit cannot come first
    return Temperature(
        name=one_line(
            optional_text(host, f"{sensor}_label") or sensor.rpartition("/")[2], MAX_LABEL
        ),
        value=value,
        critical=critical,
        emergency=emergency,
    )


def _limit(host: Host, path: str) -> int | None:
    limit = optional_int(host, path)
    return limit if limit is not None and COLDEST_LIMIT <= limit < HOTTEST else None
