"""What a test asks for and what it found; pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from deviceplugin.documents.diagnostics import (
    COMPUTE_TEST,
    MEMORY_TEST,
    THERMAL_TEST,
    Diagnostics,
    DiagnosticTest,
)
from deviceplugin.model import DeviceID

SHORT_S = 5.0  # of each test
CELSIUS, BANDWIDTH, THROUGHPUT = "°C", "GB/s", "TFLOPS"
UNITS: Mapping[str, str] = MappingProxyType(
    {MEMORY_TEST: BANDWIDTH, COMPUTE_TEST: THROUGHPUT, THERMAL_TEST: CELSIUS}
)
DEFAULTS = (
    DiagnosticTest(name="memory_test"),
    DiagnosticTest(name="compute_test"),
    DiagnosticTest(name="thermal_test"),
)


class Wish(Struct, frozen=True, kw_only=True):
    """A test as it is to be run. `threshold` is a part of what is expected, of the thermal test
    degrees; `short` is not compared with what is not."""

    test: str
    seconds: float
    threshold: float
    short: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """What a test of a GPU found.

    `value` is in `unit`, None where nothing was measured, and `problem` says why: `broken` where
    the GPU has it and not what is around it, `stopped` where it was too hot or took too much power.
    `roof` is the most that the product can do, in the same unit, None where it is not told, `said`
    the verdict of a vendor's tool. `wrong` counts results that differ from what was written or
    computed, `covered` is the part of the memory that was tested, `tensor` the TFLOPS of tensor
    cores.
    """

    test: str
    device: DeviceID
    product: str
    tool: str
    short: bool = False
    value: float | None = None
    roof: float | None = None
    said: bool | None = None
    wrong: int = 0
    covered: float | None = None
    tensor: float | None = None
    hottest: float | None = None
    problem: str = ""
    broken: bool = False
    stopped: bool = False

    @property
    def unit(self) -> str:
        """Of the value."""
        return UNITS[self.test]


class Past(Struct, frozen=True, kw_only=True):
    """An outcome that is kept, with when it was (Unix seconds), and what was said of it."""

    at: float
    outcome: Outcome
    verdict: str
    text: str


def wishes(section: Diagnostics | None, *, short: bool) -> Sequence[Wish]:
    """The section's tests, by default all of them with their own times and limits."""
    tests = section.tests if section is not None and section.tests else DEFAULTS
    return [
        Wish(
            test=one.name,
            seconds=min(SHORT_S, one.seconds) if short else one.seconds,
            threshold=one.limit,
            short=short,
        )
        for one in tests
    ]
