"""Our own tests of a GPU: patterns in its memory, and arithmetic with a known result. They run in
the child process of `child.py`, and end by its end."""

import ctypes
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.diagnose.active.cuda import Card, Cuda, CudaError
from deviceplugin.diagnose.active.ptx import (
    BURN,
    CHECK,
    FILL,
    STEPS_A_ROUND,
    TENSOR,
    TENSOR_FROM,
    TENSOR_STEPS_A_ROUND,
    module_text,
    tensor_text,
)

THREADS = 256
BLOCKS_A_PROCESSOR = 16
_WORD = 16  # bytes that a thread moves at once
_CHUNK = 1 << 30
_WARP = 32  # threads that have a product of tensor cores together
_SPARED = 256 << 20  # for the context, and for whoever looks at the GPU meanwhile
_FULL = 0.95  # of what is free
_PIECE_S = 0.1  # a launch is long enough for its start not to count, and soon over
# Every bit is once set and once clear, beside equal and beside other neighbours; with a factor each
# word says where it is, so that a wrong address is found as well.
PATTERNS = (
    (0x00000000, 0),
    (0xFFFFFFFF, 0),
    (0x55555555, 0),
    (0xAAAAAAAA, 0),
    (0x9E3779B9, 0x9E3779B1),
)
_FACTORS = (2.0, 1.0, 0.5, -0.5)
Grid = tuple[int, int]


class Found(Struct, frozen=True, kw_only=True):
    """What was measured: GB/s or TFLOPS, results that were wrong, and the part of the memory;
    `tensor` is the TFLOPS of its tensor cores, None where it has none that are tested."""

    value: float | None
    wrong: int
    passes: int
    covered: float | None = None
    tensor: float | None = None


class Load(Struct):
    """A kernel that computes: its rounds take so many of its steps in a thread each, `flops` is
    what was done in `took_s` seconds."""

    kernel: ctypes.c_void_p
    steps: float
    arguments: Sequence[ctypes.c_float] = ()
    rounds: int = 0
    flops: float = 0.0
    took_s: float = 0.0

    @property
    def tflops(self) -> float | None:
        """Over all of its launches."""
        return self.flops / self.took_s / 1e12 if self.took_s else None


class Bench:
    """A GPU with the kernels loaded; `goes_on` says whether there is time for one more pass."""

    def __init__(self, cuda: Cuda, card: Card, goes_on: Callable[[], bool]) -> None:
        self._cuda, self._goes_on = cuda, goes_on
        self._fill, self._check, burn = cuda.functions(module_text(), FILL, CHECK, BURN)
        factors = [ctypes.c_float(number) for number in _FACTORS]
        self._burn = Load(kernel=burn, steps=2 * STEPS_A_ROUND, arguments=factors)
        self._tensor: Load | None = None
        if card.capability >= TENSOR_FROM:
            (tensor,) = cuda.functions(tensor_text(), TENSOR)
            self._tensor = Load(kernel=tensor, steps=2 * TENSOR_STEPS_A_ROUND / _WARP)
        self._grid: Grid = (max(1, card.processors) * BLOCKS_A_PROCESSOR, THREADS)
        self._wrong = cuda.allocated(4)

    def memory(self) -> Found:
        """Write each pattern everywhere, then read all of it; at least one of them.

        The first pattern is not timed: clocks rise only when there is work.
        """
        total = self._cuda.memory()[1]
        chunks = list(self._chunks())
        size = sum(length for _, length in chunks)
        moved, took_s, wrong, passes = 0, 0.0, 0, 0
        while not passes or self._goes_on():
            seconds, bad = self._pattern(chunks, PATTERNS[passes % len(PATTERNS)])
            wrong, passes = wrong + bad, passes + 1
            if passes > 1 or not self._goes_on():
                moved, took_s = moved + 2 * size, took_s + seconds
        value = moved / took_s / 1e9 if took_s else None
        return Found(value=value, wrong=wrong, passes=passes, covered=size / total)

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """As much as there is, in pieces: one that is not to be had ends it."""
        left = int(max(0, self._cuda.memory()[0] - _SPARED) * _FULL)
        left = left or self._cuda.memory()[0] // 2  # a small one
        found = 0
        while left >= _WORD:
            size = min(left, _CHUNK) // _WORD * _WORD
            try:
                yield self._cuda.allocated(size), size
            except CudaError:
                if not found:
                    raise
                return
            left, found = left - size, found + size

    def _pattern(
        self, chunks: Sequence[tuple[int, int]], pattern: tuple[int, int]
    ) -> tuple[float, int]:
        """The seconds, and the words that were read otherwise than they were written."""
        seed, factor = (ctypes.c_uint32(number) for number in pattern)
        took_s = 0.0
        self._cuda.clear(self._wrong)
        for kernel, more in ((self._fill, ()), (self._check, (ctypes.c_uint64(self._wrong),))):
            for address, size in chunks:
                start, count = ctypes.c_uint64(address), ctypes.c_uint64(size // _WORD)
                took_s += self._cuda.timed(kernel, self._grid, (start, count, seed, factor, *more))
        return took_s, self._cuda.counted(self._wrong)

    def burn(self) -> Found:
        """Compute in single precision and on tensor cores by turns while there is time."""
        loads = [self._burn, *([self._tensor] if self._tensor else [])]
        found = self._computed(loads)
        tensor = self._tensor.tflops if self._tensor else None
        return replace(found, value=self._burn.tflops, tensor=tensor)

    def heat(self) -> Found:
        """Compute on what takes most power for as long as there is time."""
        load = self._tensor or self._burn
        return replace(self._computed([load]), value=load.tflops)

    def _computed(self, loads: Sequence[Load]) -> Found:
        self._cuda.clear(self._wrong)
        for load in loads:
            self._measure(load)
        passes = 0
        while passes < len(loads) or self._goes_on():
            self._launch(loads[passes % len(loads)])
            passes += 1
        return Found(value=None, wrong=self._cuda.counted(self._wrong), passes=passes)

    def _measure(self, load: Load) -> None:
        """So many rounds that a launch takes about as long as it should; they are not counted."""
        load.rounds, took_s = 64, 0.0
        while took_s < _PIECE_S / 4 and load.rounds < 1 << 24:
            load.rounds *= 4
            took_s = self._launched(load)

    def _launch(self, load: Load) -> None:
        load.took_s += self._launched(load)
        load.flops += self._grid[0] * self._grid[1] * load.rounds * load.steps

    def _launched(self, load: Load) -> float:
        """The seconds that it took."""
        arguments = (ctypes.c_uint32(load.rounds), *load.arguments, ctypes.c_uint64(self._wrong))
        return self._cuda.timed(load.kernel, self._grid, arguments)
