"""Hardware monitors of a device (Documentation/hwmon/sysfs-interface.rst): raw numbers.

Temperatures are in m°C, power in µW, energy in µJ, frequencies in Hz, fans in revolutions per
minute.
"""

import re
from collections.abc import Iterator

from deviceplugin.host.host import Host
from deviceplugin.host.numbers import parse_integer
from deviceplugin.host.optional import optional_names, optional_text

_SENSOR = re.compile(r"(temp|fan)([0-9]{1,3})_input")


class Monitor:
    """One monitor's folder, read file by file; what cannot be read is None."""

    def __init__(self, host: Host, path: str) -> None:
        self._host, self._path = host, path

    def number(self, file: str) -> int | None:
        """The number in a file."""
        return parse_integer(self.text(file) or "")

    def text(self, file: str) -> str | None:
        """The text of a file."""
        return optional_text(self._host, f"{self._path}/{file}")

    def first(self, *files: str) -> int | None:
        """The number of the first of these files that has one."""
        numbers = (self.number(file) for file in files)
        return next((number for number in numbers if number is not None), None)

    def sensors(self, kind: str) -> Iterator[tuple[int, str | None]]:
        """Number and label of each sensor of a kind: temp or fan."""
        names = optional_names(self._host, self._path)
        found = sorted(int(m[2]) for n in names if (m := _SENSOR.fullmatch(n)) and m[1] == kind)
        for number in found:
            yield number, self.text(f"{kind}{number}_label")


def read_monitor(host: Host, device: str, *names: str) -> Monitor | None:
    """The first monitor below a device's folder that has one of `names`, None without any."""
    folder = f"{device}/hwmon"
    monitors = (Monitor(host, f"{folder}/{entry}") for entry in optional_names(host, folder))
    return next((one for one in monitors if one.text("name") in names), None)
