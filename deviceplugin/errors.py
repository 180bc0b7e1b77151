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

from enum import StrEnum

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

MAX_VALUE, MAX_EXPECTED = 200, 1000


class DevicePluginError(Exception):
    """Any failure that this program names itself."""


class ConfigError(DevicePluginError):
    """A setting that cannot be used: which key, which value, what was expected; one line."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        self.key, self.value, self.expected = key, value, expected
        name = key if key and key.isprintable() else repr(key)
        found, wanted = _cut(repr(value), MAX_VALUE), _cut(expected, MAX_EXPECTED)
        super().__init__(f"{_cut(name, MAX_VALUE)}: {found} is not valid, expected {wanted}")


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
        self.call, self.code, self.text = call, code, text
        super().__init__(f"{call}: {text} (code {code})")


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


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
