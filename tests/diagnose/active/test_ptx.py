"""The kernels do what they say: their text is executed here, one thread after the other.

NVIDIA's assembler takes it (tried by hand); this shows that it is right."""

import re
import struct
from collections.abc import Mapping

import pytest

from deviceplugin.diagnose.active.kernels import PATTERNS
from deviceplugin.diagnose.active.ptx import BURN, CHECK, FILL, module_text

_KERNEL = re.compile(r"\.entry (\w+)\((.*?)\)\n\{\n(.*?)\n\}", re.DOTALL)
MASK = {"u32": (1 << 32) - 1, "b32": (1 << 32) - 1, "u64": (1 << 64) - 1, "b64": (1 << 64) - 1}
Number = int | float
BLOCKS, THREADS = 2, 3


def single(value: float) -> float:
    """Rounded to single precision."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


class Machine:
    """Executes a kernel over memory of 32-bit words by address."""

    def __init__(self) -> None:
        self.memory: dict[int, int] = {}
        self.kernels = {
            name: [line.strip().rstrip(";") for line in body.splitlines()]
            for name, _, body in _KERNEL.findall(module_text())
        }

    def launch(self, kernel: str, given: Mapping[str, Number]) -> None:
        for block in range(BLOCKS):
            for thread in range(THREADS):
                self._run(self.kernels[kernel], given, block, thread)

    def _run(self, lines: list[str], given: Mapping[str, Number], block: int, thread: int) -> None:
        special = {"%ctaid.x": block, "%tid.x": thread, "%ntid.x": THREADS, "%nctaid.x": BLOCKS}
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
    name, numbers = operation.split(".", maxsplit=1)[0], [int(one) for one in values]
    found = {
        "mov": lambda: numbers[0],
        "cvt": lambda: numbers[0],
        "add": lambda: numbers[0] + numbers[1],
        "sub": lambda: numbers[0] - numbers[1],
        "mul": lambda: numbers[0] * numbers[1],
        "mad": lambda: numbers[0] * numbers[1] + numbers[2],
        "shl": lambda: numbers[0] << numbers[1],
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
