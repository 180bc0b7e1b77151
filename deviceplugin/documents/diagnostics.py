"""The section about diagnostics; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from deviceplugin.documents.told import Telling, Time, Told, Words, applied, seconds_of

_ASKED_FOR = applied(
    "by `deviceplugin diagnose --active`, on a GPU that nobody holds; no clock starts it"
)
MEMORY_TEST, COMPUTE_TEST, THERMAL_TEST = "memory_test", "compute_test", "thermal_test"
# Seconds, and what is told as a percentage or in degrees.
_TESTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {MEMORY_TEST: (300.0, 95.0), COMPUTE_TEST: (600.0, 90.0), THERMAL_TEST: (900.0, 85.0)}
)
_LONGEST_S = 86400.0
_PERCENT, _DEGREES = r"(\d+(?:\.\d+)?) ?%", r"(\d+(?:\.\d+)?) ?°?C"


class DiagnosticTest(Told, frozen=True):
    """A test of a GPU."""

    OTHERS: ClassVar[Telling] = _ASKED_FOR

    name: Literal["memory_test", "compute_test", "thermal_test"]
    duration: Time | None = None
    threshold: str | None = None

    def __post_init__(self) -> None:
        """Check time and threshold."""
        if not 0 < self.seconds <= _LONGEST_S:
            raise ValueError("duration: a time up to 24h, such as 5m")
        if self.threshold is not None and self._number(self.threshold) is None:
            form = "85°C" if self.name == THERMAL_TEST else "95%"
            raise ValueError(f"threshold: a value such as {form}, not {self.threshold!r}")

    @property
    def seconds(self) -> float:
        """How long the test runs."""
        return _TESTS[self.name][0] if self.duration is None else seconds_of(self.duration)

    @property
    def limit(self) -> float:
        """The threshold: degrees of the thermal test, of the others a part of 1."""
        given = None if self.threshold is None else self._number(self.threshold)
        number = _TESTS[self.name][1] if given is None else given
        return number if self.name == THERMAL_TEST else number / 100

    def _number(self, text: str) -> float | None:
        found = re.fullmatch(_DEGREES if self.name == THERMAL_TEST else _PERCENT, text.strip())
        number = float(found[1]) if found else 0.0
        return number if 0 < number <= (150 if self.name == THERMAL_TEST else 100) else None


class DiagnosticAlert(Told, frozen=True):
    """What fires while a check of the diagnosis fails."""

    OTHERS: ClassVar[Telling] = applied(
        "`deviceplugin_diagnosis_alert` is 1 while a check fails, with its name and severity"
    )

    name: str
    condition: Literal["test_failed"]
    severity: Literal["info", "warning", "critical"] = "warning"


_DIAGNOSED = applied("with `true` the daemon diagnoses its node in every `interval`")
_LEAST_INTERVAL_S = 60


class Diagnostics(Told, frozen=True):
    """The section `diagnostics`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": _DIAGNOSED,
            "interval": _DIAGNOSED,
            "tools": applied(
                "by `deviceplugin diagnose --active`: those of these that are installed test, and"
                " else our own kernels; with none named, any that is"
            ),
        }
    )

    enabled: bool = True
    interval: Time = "1h"
    tools: Words = ()
    tests: tuple[DiagnosticTest, ...] = ()
    alerts: tuple[DiagnosticAlert, ...] = ()

    def __post_init__(self) -> None:
        """Check the time."""
        if not _LEAST_INTERVAL_S <= self.interval_s <= 366 * 86400:
            raise ValueError("interval: a time from 1m to 1y")

    @property
    def interval_s(self) -> float:
        """In seconds."""
        return seconds_of(self.interval)
