"""Whether a vendor's discovery can be spared, because nothing it would read has changed."""

import time
from collections.abc import Callable, Iterable

from deviceplugin.model import DeviceID
from deviceplugin.runtime.guard import guarded
from deviceplugin.vendor import ChangeChecker, Vendor

FULL_S = 60.0  # what a check misses is found after this time at the latest


class ChangeCheck:
    """Asks a vendor whether anything has changed since the last discovery that found no fault.

    `clock` gives seconds.
    """

    def __init__(self, vendor: Vendor, clock: Callable[[], float] = time.monotonic) -> None:
        unchanged = vendor.unchanged if isinstance(vendor, ChangeChecker) else _never
        self._unchanged = guarded(f"{vendor.name}.unchanged", unchanged, _never)
        self._clock = clock
        self._listed: frozenset[DeviceID] = frozenset()
        self._good_until = 0.0
        self._settled = False

    def settle(self, listed: Iterable[DeviceID]) -> None:
        """A discovery found no fault, with these devices listed."""
        self._listed, self._settled = frozenset(listed), True
        self._good_until = self._clock() + FULL_S

    def forget(self) -> None:
        """The next look is a discovery."""
        self._settled = False

    def expect(self, listed: Iterable[DeviceID]) -> None:
        """Forget where other devices are listed than were settled: another vendor took some."""
        self._settled = self._settled and self._listed == frozenset(listed)

    @property
    def due(self) -> bool:
        """Whether nothing but `unchanged` has to be asked before a discovery is spared."""
        return self._settled and self._clock() < self._good_until

    def unchanged(self) -> bool:
        """Whether a discovery would find what the last one did; asks the vendor."""
        return self._unchanged()


def _never() -> bool:
    return False
