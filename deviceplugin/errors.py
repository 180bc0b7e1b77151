"""The exception tree; nothing else.

DevicePluginError
├── ConfigError           a bad flag, variable or configuration key: exit status 2
├── VendorError           one vendor cannot do its work; the others go on
│   ├── UnavailableError     no driver or no hardware: normal, asked again later
│   ├── DiscoveryError        the hardware could not be read: the last devices stay, faulted
│   ├── ExhaustedError        we lack descriptors or memory: the last devices stay as they were
│   ├── LibraryError          a driver library call failed; carries the library's code
│   ├── CallTimeoutError      a driver call did not return by its deadline
│   └── FilesError            files that devices need before they are announced cannot be written
├── AllocationError       becomes a gRPC status in kubelet/plugin.py
└── RegistrationError     the kubelet did not take a registration: tried again
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from deviceplugin.files.text import one_line

__all__ = [
    "AllocationError",
    "CallTimeoutError",
    "ConfigError",
    "DevicePluginError",
    "DiscoveryError",
    "ExhaustedError",
    "FilesError",
    "LibraryError",
    "Refusal",
    "RegistrationError",
    "UnavailableError",
    "VendorError",
]

MAX_VALUE, MAX_EXPECTED, MAX_ERRORS = 200, 1000, 1500
MAX_TEXT = 1500  # our own words about a failure, with those of others in them
MAX_CALL = 100  # the name of a library's function
MANY = 20  # errors of one configuration that are shown
MAX_WHOLE = 60  # of a list or a mapping: longer, it hides what is said of it


class DevicePluginError(Exception):
    """Any failure that this program names itself; its text is one line that can be printed.

    Whatever a driver, an agent or a file says ends here before it is shown anywhere.
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(one_line(str(text), MAX_TEXT))


class ConfigError(DevicePluginError):
    """A setting that cannot be used: which key, which value, what was expected; one line.

    With `reason` the line says what is wrong with the value, where that is clearer than what was
    expected. `errors` is this error, and all of them where there are several; `more` says that
    there are more than these.
    """

    def __init__(self, key: str, value: object, expected: str, *, reason: str = "") -> None:
        self.key, self.value, self.expected = key, value, expected
        self._several: Sequence[ConfigError] = ()
        self.more = False
        name = key if key and key.isprintable() else repr(key)
        found, text = _found(value), _cut(reason or expected, MAX_EXPECTED)
        problem = f"is not valid: {text}" if reason else f"is not valid, expected {text}"
        super().__init__(f"{_cut(name, MAX_VALUE)}: {found} {problem}")

    @property
    def errors(self) -> Sequence["ConfigError"]:
        """Every setting that cannot be used."""
        return self._several or (self,)

    @classmethod
    def of_several(cls, errors: Sequence["ConfigError"], *, more: bool = False) -> "ConfigError":
        """One error for all of them, MANY at most; as text one line, its key and value those of
        the first. `more` says that some are left out already."""
        if len(errors) == 1:
            return errors[0]
        first, shown = errors[0], tuple(errors[:MANY])
        several = cls(first.key, first.value, first.expected)
        several.args = (_cut("; ".join(map(str, shown)), MAX_ERRORS),)
        several._several = shown
        several.more = more or len(errors) > MANY
        return several


class VendorError(DevicePluginError):
    """A vendor cannot do its work now."""


class UnavailableError(VendorError):
    """The driver or the hardware is absent, which is normal on many nodes."""


class DiscoveryError(VendorError):
    """Hardware that should be readable is not."""


class ExhaustedError(VendorError):
    """This process or node has no file descriptor or memory left to look with."""


class LibraryError(VendorError):
    """A call into a driver library failed: `call` is its name, `code` the library's own."""

    def __init__(self, call: str, code: int, text: str) -> None:
        self.call, self.code, self.text = one_line(call, MAX_CALL), code, one_line(text)
        super().__init__(f"{self.call}: {self.text} (code {code})")


class CallTimeoutError(VendorError):
    """A driver call did not return by its deadline; it may still return later."""


class FilesError(VendorError):
    """Files that must be there before a device is announced cannot be written."""


class Refusal(StrEnum):
    """Why an allocation is refused; the values are metric labels."""

    EMPTY = "empty_request"
    DUPLICATE = "duplicate_id"
    UNKNOWN = "unknown_id"
    UNHEALTHY = "unhealthy_device"
    IN_USE = "in_use_as_another_form"
    LIMIT = "limit"
    PAIR = "pair_split"
    LEDGER = "ledger_unknown"
    UNLIMITED = "memory_limit"
    MISSING_NODE = "missing_node"
    DEADLINE = "deadline"
    FAILED = "failed"


class AllocationError(DevicePluginError):
    """An Allocate request that is refused; the text becomes the pod's status message."""

    def __init__(self, refusal: Refusal, text: str) -> None:
        self.refusal = refusal
        super().__init__(text)


class RegistrationError(DevicePluginError):
    """The kubelet is away or refused a registration."""


def _found(value: object) -> str:
    text = repr(value)
    if len(text) > MAX_WHOLE and isinstance(value, Mapping | list | tuple):
        return "{...}" if isinstance(value, Mapping) else "[...]"
    return _cut(text, MAX_VALUE)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
