"""The CUDA driver by ctypes: no more of it than the tests need.

The numbers are those of cuda.h; the calls with _v2 are those that programs get that are compiled
now. Only a child process loads it: a driver that hangs or dies there takes nothing else with it.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from deviceplugin.errors import DevicePluginError

SONAME = "libcuda.so.1"
_CLOCK_RATE, _PROCESSORS = 13, 16
_MEMORY_CLOCK_RATE, _BUS_WIDTH = 36, 37
_MAJOR, _MINOR = 75, 76
_NAME_BYTES, _ADDRESS_BYTES = 256, 32
# Units for single precision of a multiprocessor by compute capability (CUDA C++ Programming Guide,
# throughput of native arithmetic instructions); newer ones have the last.
_UNITS = {(6, 0): 64, (7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}
_UNITS_ELSE = 128


class CudaError(DevicePluginError):
    """A call of the driver failed; `code` is its result, 0 where there is no driver."""

    def __init__(self, text: str, code: int = 0) -> None:
        self.code = code
        super().__init__(text)


class Card(Struct, frozen=True, kw_only=True):
    """A GPU as the driver tells it; clocks in kHz, the bus in bits."""

    number: int
    name: str
    address: str
    processors: int
    clock_khz: int
    memory_clock_khz: int
    bus_bits: int
    capability: tuple[int, int]

    @property
    def bandwidth_roof(self) -> float | None:
        """GB/s: two transfers in each of its memory's clocks."""
        bits_s = 2 * self.memory_clock_khz * 1e3 * self.bus_bits
        return bits_s / 8e9 if bits_s > 0 else None

    @property
    def throughput_roof(self) -> float | None:
        """TFLOPS in single precision: a multiplication and an addition in each unit and clock."""
        units = self.processors * _UNITS.get(self.capability, _UNITS_ELSE)
        flops = 2 * units * self.clock_khz * 1e3
        return flops / 1e12 if flops > 0 else None


class Cuda:
    """The driver, initialised; raises CudaError where there is none that works."""

    def __init__(self, name: str = SONAME) -> None:
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise CudaError(f"the CUDA driver is not here: {error}") from error
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, function: str, *arguments: object) -> None:
        """Raises CudaError with what the driver calls the result."""
        try:
            code = int(getattr(self._library, function)(*arguments))
        except AttributeError as error:
            raise CudaError(f"the CUDA driver has no {function}") from error
        if code:
            raise CudaError(f"{function}: {self._name_of(code)}", code)

    def _name_of(self, code: int) -> str:
        text = ctypes.c_char_p()
        named = self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text)) == 0
        return (
            f"{text.value.decode('ascii', 'replace') if named and text.value else 'error'} ({code})"
        )

    def cards(self) -> Sequence[Card]:
        """The GPUs that this process may use."""
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return [self._card(number) for number in range(count.value)]

    def _card(self, number: int) -> Card:
        name = ctypes.create_string_buffer(_NAME_BYTES)
        address = ctypes.create_string_buffer(_ADDRESS_BYTES)
        self.call("cuDeviceGetName", name, _NAME_BYTES - 1, number)
        self.call("cuDeviceGetPCIBusId", address, _ADDRESS_BYTES - 1, number)
        return Card(
            number=number,
            name=name.value.decode("utf-8", "replace"),
            address=address.value.decode("ascii", "replace").lower(),
            processors=self._attribute(number, _PROCESSORS),
            clock_khz=self._attribute(number, _CLOCK_RATE),
            memory_clock_khz=self._attribute(number, _MEMORY_CLOCK_RATE),
            bus_bits=self._attribute(number, _BUS_WIDTH),
            capability=(self._attribute(number, _MAJOR), self._attribute(number, _MINOR)),
        )

    def _attribute(self, number: int, attribute: int) -> int:
        """0 where this driver does not tell it."""
        value = ctypes.c_int()
        try:
            self.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, number)
        except CudaError:
            return 0
        return value.value

    @contextmanager
    def using(self, card: Card) -> Iterator[None]:
        """The GPU's own context is current."""
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), card.number)
        try:
            self.call("cuCtxSetCurrent", context)
            yield
        finally:
            self._library.cuDevicePrimaryCtxRelease_v2(card.number)

    def functions(self, text: str, *names: str) -> Sequence[ctypes.c_void_p]:
        """Of a module of PTX."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(text.encode()))
        found = []
        for name in names:
            function = ctypes.c_void_p()
            named = ctypes.c_char_p(name.encode())
            self.call("cuModuleGetFunction", ctypes.byref(function), module, named)
            found.append(function)
        return found

    def memory(self) -> tuple[int, int]:
        """Free and all bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocated(self, size: int) -> int:
        """The address of so many bytes."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def clear(self, address: int) -> None:
        """Set a counter to zero."""
        self.call("cuMemsetD32_v2", ctypes.c_uint64(address), ctypes.c_uint(0), ctypes.c_size_t(1))

    def counted(self, address: int) -> int:
        """What a counter has."""
        value = ctypes.c_uint32()
        there, size = ctypes.c_uint64(address), ctypes.c_size_t(4)
        self.call("cuMemcpyDtoH_v2", ctypes.byref(value), there, size)
        return value.value

    def timed(
        self, function: ctypes.c_void_p, grid: tuple[int, int], arguments: Sequence[object]
    ) -> float:
        """Run a kernel on so many blocks of so many threads; the seconds that it took."""
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(one) for one in arguments)  # type: ignore[arg-type]  # ctypes' own
        )
        before, after = self._event(), self._event()
        try:
            self.call("cuEventRecord", before, None)
            self.call(
                "cuLaunchKernel",
                *(function, grid[0], 1, 1, grid[1], 1, 1, 0, None),
                *(pointers, None),
            )
            self.call("cuEventRecord", after, None)
            self.call("cuEventSynchronize", after)
            took_ms = ctypes.c_float()
            self.call("cuEventElapsedTime", ctypes.byref(took_ms), before, after)
        finally:
            for event in (before, after):
                self._library.cuEventDestroy_v2(event)
        return took_ms.value / 1e3

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        return event
