from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchDeviceHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PciInfo(_message.Message):
    __slots__ = ("bdf",)
    BDF_FIELD_NUMBER: _ClassVar[int]
    bdf: str
    def __init__(self, bdf: _Optional[str] = ...) -> None: ...

class Info(_message.Message):
    __slots__ = ("uuid", "model", "pci")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PCI_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    model: str
    pci: PciInfo
    def __init__(self, uuid: _Optional[str] = ..., model: _Optional[str] = ..., pci: _Optional[_Union[PciInfo, _Mapping]] = ...) -> None: ...

class HealthStatus(_message.Message):
    __slots__ = ("name", "severity", "reason", "message")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    severity: int
    reason: str
    message: str
    def __init__(self, name: _Optional[str] = ..., severity: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class DeviceHealth(_message.Message):
    __slots__ = ("info", "health")
    INFO_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    info: Info
    health: _containers.RepeatedCompositeFieldContainer[HealthStatus]
    def __init__(self, info: _Optional[_Union[Info, _Mapping]] = ..., health: _Optional[_Iterable[_Union[HealthStatus, _Mapping]]] = ...) -> None: ...

class DeviceHealthResponse(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceHealth]
    def __init__(self, devices: _Optional[_Iterable[_Union[DeviceHealth, _Mapping]]] = ...) -> None: ...
