"""The kernels do what they say: their text is executed here, one thread after the other.

NVIDIA's assembler takes it (tried by hand); this shows that it is right."""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence

import pytest

from deviceplugin.diagnose.active.kernels import PATTERNS
from deviceplugin.diagnose.active.ptx import BURN, CHECK, FILL, TENSOR, module_text, tensor_text

_KERNEL = re.compile(r"\.entry (\w+)\((.*?)\)\n\{\n(.*?)\n\}", re.DOTALL)
MASK = {
    "u32": (1 << 32) - 1,
    "s32": (1 << 32) - 1,
    "b32": (1 << 32) - 1,
    "u64": (1 << 64) - 1,
    "b64": (1 << 64) - 1,
}
EXACT_IN_HALF = 2048
Number = int | float
Together = tuple[str, dict[str, Number]]
BLOCKS, THREADS, WARP = 2, 3, 32


def single(value: float) -> float:
    """Rounded to single precision."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def halves(packed: Number) -> tuple[float, float]:
    """The two numbers of half precision in a register."""
    first, second = struct.unpack("<2e", struct.pack("<I", int(packed)))
    return first, second


def product(warp: Sequence[Together]) -> None:
    """mma.m16n8k16: the lanes' registers as the PTX ISA says, of the product the same."""
    assert len(warp) == WARP
    groups = [group.split(", ") for group in re.findall(r"\{(.*?)\}", warp[0][0])]
    first, second = {}, {}
    for lane, (_, registers) in enumerate(warp):
        row, k = lane // 4, lane % 4 * 2
        for register, (down, right) in zip(
            groups[1], ((0, 0), (8, 0), (0, 8), (8, 8)), strict=True
        ):
            for half, number in enumerate(halves(registers[register])):
                first[row + down, k + right + half] = number
        for register, down in zip(groups[2], (0, 8), strict=True):
            for half, number in enumerate(halves(registers[register])):
                second[k + down + half, row] = number
    for lane, (_, registers) in enumerate(warp):
        for n, register in enumerate(groups[0]):
            row, column = lane // 4 + 8 * (n // 2), lane % 4 * 2 + n % 2
            added = sum(first[row, k] * second[k, column] for k in range(16))
            registers[register] = single(registers[register] + added)


class Machine:
    """Executes a kernel over memory of 32-bit words by address."""

    def __init__(self) -> None:
        self.memory: dict[int, int] = {}
        self.kernels = {
            name: [line.strip().rstrip(";") for line in body.splitlines()]
            for name, _, body in _KERNEL.findall(module_text() + tensor_text())
        }

    def launch(self, kernel: str, given: Mapping[str, Number], threads: int = THREADS) -> None:
        for block in range(BLOCKS):
            block_of = {"%ctaid.x": block, "%ntid.x": threads, "%nctaid.x": BLOCKS}
            running = [
                self._run(self.kernels[kernel], given, {**block_of, "%tid.x": thread})
                for thread in range(threads)
            ]
            while together := [one for one in (next(thread, None) for thread in running) if one]:
                product(together)

    def _run(
        self, lines: list[str], given: Mapping[str, Number], special: Mapping[str, int]
    ) -> Iterator[Together]:
        """What a warp does together is yielded."""
        registers: dict[str, Number] = dict(special)
        labels = {line[:-1]: n for n, line in enumerate(lines) if line.endswith(":")}
        at = 0
        while at < len(lines):
            line, at = lines[at], at + 1
            if line.startswith(".reg") or line.endswith(":"):
                continue
            if line.startswith("@"):
                predicate, line = line[1:].split(" ", 1)
                if not registers[predicate]:
                    continue
            if line == "ret":
                return
            if line.startswith("bra"):
                at = labels[line.split()[1]]
                continue
            if line.startswith("mma"):
                yield line, registers
                continue
            self._step(line, registers, given)

    def _step(self, line: str, registers: dict[str, Number], given: Mapping[str, Number]) -> None:
        operation, rest = line.split(" ", 1)
        words = [word.strip() for word in re.findall(r"\{[^}]*\}|[^,\s]+", rest)]
        name, *_, kind = operation.split(".")

        def value(word: str) -> Number:
            return registers[word] if word.startswith("%") else int(word)

        if operation.startswith("ld.param"):
            registers[words[0]] = given[words[1].strip("[]")]
        elif name in ("ld", "st"):
            place, group = (words[1], words[0]) if name == "ld" else (words[0], words[1])
            start = int(value(place.strip("[]")))
            for n, register in enumerate(group.strip("{}").split(", ")):
                if name == "ld":
                    registers[register] = self.memory.get(start + 4 * n, 0)
                else:
                    self.memory[start + 4 * n] = int(registers[register])
        elif operation == "mov.b32" and words[1].startswith("{"):
            low, high = (int(registers[one]) for one in words[1].strip("{}").split(", "))
            registers[words[0]] = low | high << 16
        elif name == "atom":
            place = int(value(words[1].strip("[]")))
            self.memory[place] = self.memory.get(place, 0) + int(value(words[2]))
        elif name == "setp":
            left, right = (value(word) for word in words[1:])
            test = operation.split(".")[1]
            compared = {"eq": left == right, "ge": left >= right, "lt": left < right}
            registers[words[0]] = compared.get(test, left != right)
        else:
            registers[words[0]] = _result(operation, kind, [value(word) for word in words[1:]])


def _result(operation: str, kind: str, values: list[Number]) -> Number:
    if operation == "fma.rn.f32":
        first, second, third = values
        return single(first * second + third)
    if operation == "cvt.rn.f32.u32":
        return single(values[0])
    if operation == "cvt.rn.f16.s32":
        number = values[0] - (1 << 32 if values[0] >= 1 << 31 else 0)
        assert abs(number) <= EXACT_IN_HALF
        return int.from_bytes(struct.pack("<e", number), "little")
    name, numbers = operation.split(".", maxsplit=1)[0], [int(one) for one in values]
    found = {
        "mov": lambda: numbers[0],
        "cvt": lambda: numbers[0],
        "add": lambda: numbers[0] + numbers[1],
        "sub": lambda: numbers[0] - numbers[1],
        "mul": lambda: numbers[0] * numbers[1],
        "mad": lambda: numbers[0] * numbers[1] + numbers[2],
        "neg": lambda: -numbers[0],
        "shl": lambda: numbers[0] << numbers[1],
        "shr": lambda: numbers[0] >> numbers[1],
        "and": lambda: numbers[0] & numbers[1],
    }[name]()
    return found & (MASK["u32"] if operation == "cvt.u32.u64" else MASK[kind])


START, WRONG, COUNT = 4096, 64, 11  # words of 16 bytes, no multiple of the threads


def given(pattern: tuple[int, int]) -> dict[str, Number]:
    seed, factor = pattern
    return {"start": START, "count": COUNT, "seed": seed, "factor": factor, "wrong": WRONG}


@pytest.mark.parametrize("pattern", PATTERNS, ids=[hex(seed) for seed, _ in PATTERNS])
def test_each_word_gets_its_pattern_and_none_beside_them(pattern: tuple[int, int]) -> None:
    machine = Machine()
    machine.launch(FILL, given(pattern))
    seed, factor = pattern
    wanted = {START + 4 * n: (n * factor + seed) & MASK["u32"] for n in range(4 * COUNT)}
    assert machine.memory == wanted
    machine.launch(CHECK, given(pattern))
    assert WRONG not in machine.memory


@pytest.mark.parametrize("bad", [(0,), (43,), (7, 8, 9), (0, 1, 2, 3, 40)])
def test_each_word_that_differs_is_counted(bad: tuple[int, ...]) -> None:
    machine = Machine()
    machine.launch(FILL, given(PATTERNS[-1]))
    for word in bad:
        machine.memory[START + 4 * word] ^= 1 << 9
    machine.launch(CHECK, given(PATTERNS[-1]))
    assert machine.memory[WRONG] == len(bad)


def test_arithmetic_comes_back_to_where_it_began_and_what_does_not_is_counted() -> None:
    machine = Machine()
    right: dict[str, Number] = {"rounds": 3, "up": 2.0, "one": 1.0, "down": 0.5, "half": -0.5}
    machine.launch(BURN, {**right, "wrong": WRONG})
    assert WRONG not in machine.memory
    machine.launch(BURN, {**right, "one": 1.5, "wrong": WRONG})
    assert machine.memory[WRONG] == BLOCKS * THREADS * 16


def test_tensor_cores_come_back_to_where_they_began_and_a_wrong_product_is_counted() -> None:
    machine = Machine()
    machine.launch(TENSOR, {"rounds": 2, "wrong": WRONG}, WARP)
    assert WRONG not in machine.memory
    lines = machine.kernels[TENSOR]
    taken = next(n for n, line in enumerate(lines) if line.startswith("mma") and "%r36" in line)
    lines[taken] = lines[taken].replace("%r36, %r37", "%r37, %r36")
    machine.launch(TENSOR, {"rounds": 1, "wrong": WRONG}, WARP)
    assert machine.memory[WRONG] == BLOCKS * 16 * 8
