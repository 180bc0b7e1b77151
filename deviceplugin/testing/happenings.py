"""What a kubelet stub sees of a plugin, as values, for whoever wants to judge it."""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi


class Asked(Struct, frozen=True, kw_only=True):
    """Register was called. remaining_s: the caller's deadline, None where it set none."""

    at_s: float
    request: pluginapi.RegisterRequest
    remaining_s: float | None
    generation: int


class Refused(Struct, frozen=True, kw_only=True):
    """A Register failed, with what the kubelet says about it."""

    at_s: float
    resource: str
    error: BaseException


class Opened(Struct, frozen=True, kw_only=True):
    """A Register succeeded and ListAndWatch is called. live: streams of the resource with it."""

    at_s: float
    resource: str
    live: int
    generation: int


class Listed(Struct, frozen=True, kw_only=True):
    """A list came, waited_s after ListAndWatch was called; `stream` numbers the streams."""

    at_s: float
    resource: str
    stream: int
    waited_s: float
    message: pluginapi.ListAndWatchResponse


class Ended(Struct, frozen=True, kw_only=True):
    """A stream ended, but not by the kubelet's own end."""

    at_s: float
    resource: str
    reason: str


Happening: TypeAlias = Asked | Refused | Opened | Listed | Ended
Listener: TypeAlias = Callable[[Happening], None]
