"""The kernels that test a GPU, as PTX that the driver compiles for whatever GPU it is; pure.

Each thread steps through its part of the work by the size of the grid. What is wrong is counted in
memory that the caller has cleared: a count of 32 bits, saturated by nothing, since each pass is
read before the next one.
"""

from collections.abc import Iterator

FILL, CHECK, BURN = "deviceplugin_fill", "deviceplugin_check", "deviceplugin_burn"
TENSOR = "deviceplugin_tensor"
ACCUMULATORS = 16
UNROLLED = 4
# Of one round of the burning loop in a thread: each step is a multiplication and an addition.
STEPS_A_ROUND = 2 * ACCUMULATORS * UNROLLED
# Of one round of the tensor cores' loop in a warp: products of 16 x 16 and 16 x 8 numbers.
TENSOR_STEPS_A_ROUND = 2 * 8 * 16 * 16 * 8
TENSOR_FROM = (8, 0)  # the compute capability from which they take such products
_HEAD = ".version 6.0\n.target sm_60\n.address_size 64\n"
_TENSOR_HEAD = ".version 7.0\n.target sm_80\n.address_size 64\n"


def module_text() -> str:
    """All kernels as one module."""
    return f"{_HEAD}\n{_fill()}\n{_check()}\n{_burn()}\n"


def tensor_text() -> str:
    """The kernel for tensor cores, which older GPUs cannot load, as a module of its own."""
    return f"{_TENSOR_HEAD}\n{_tensor()}\n"


def _fill() -> str:
    return _kernel(
        FILL,
        (".u64 start", ".u64 count", ".u32 seed", ".u32 factor"),
        (
            *_walk(),
            *_pattern(),
            "st.global.v4.u32 [%rd6], {%r6, %r7, %r8, %r9};",
            *_next(),
        ),
    )


def _check() -> str:
    """Four words are read at once, and each that differs is counted."""
    words = range(4)
    return _kernel(
        CHECK,
        (".u64 start", ".u64 count", ".u32 seed", ".u32 factor", ".u64 wrong"),
        (
            "ld.param.u64 %rd9, [wrong];",
            *_walk(),
            *_pattern(),
            "ld.global.v4.u32 {%r12, %r13, %r14, %r15}, [%rd6];",
            "mov.u32 %r16, 0;",
            *(f"setp.ne.u32 %p{2 + n}, %r{12 + n}, %r{6 + n};" for n in words),
            *(f"@%p{2 + n} add.u32 %r16, %r16, 1;" for n in words),
            "setp.eq.u32 %p6, %r16, 0;",
            "@%p6 bra NEXT;",
            "atom.global.add.u32 %r17, [%rd9], %r16;",
            *_next(),
        ),
    )


def _burn() -> str:
    """x becomes 2x + 1 and x again, which is exact: whoever differs at the end is wrong.

    The factors are parameters, so that no compiler sees that nothing happens.
    """
    numbers = range(ACCUMULATORS)
    return _kernel(
        BURN,
        (".u32 rounds", ".f32 up", ".f32 one", ".f32 down", ".f32 half", ".u64 wrong"),
        (
            "ld.param.u32 %r20, [rounds];",
            *(f"ld.param.f32 %f{40 + n}, [{name}];" for n, name in enumerate(_FACTORS)),
            "ld.param.u64 %rd9, [wrong];",
            *_thread(),
            "and.b32 %r3, %r3, 65535;",
            *(line for n in numbers for line in _start(n, n)),
            *("BURN:", *_steps(), "sub.u32 %r20, %r20, 1;", "setp.ne.u32 %p1, %r20, 0;"),
            *("@%p1 bra BURN;", "mov.u32 %r16, 0;"),
            *(line for n in numbers for line in _compared(n)),
            *("setp.eq.u32 %p6, %r16, 0;", "@%p6 bra DONE;"),
            *("atom.global.add.u32 %r17, [%rd9], %r16;", "DONE:"),
        ),
    )


def _steps() -> Iterator[str]:
    for _ in range(UNROLLED):
        for by, plus in (("%f40", "%f41"), ("%f42", "%f43")):
            yield from (f"fma.rn.f32 %f{n}, %f{n}, {by}, {plus};" for n in range(ACCUMULATORS))


_FACTORS = ("up", "one", "down", "half")


def _tensor() -> str:
    """Products of half precision added up in single: what is added is taken away again by other
    numbers with the same sum, all of them integers that are never rounded."""
    tiles = range(_TILES)
    return _kernel(
        TENSOR,
        (".u32 rounds", ".u64 wrong"),
        (
            *("ld.param.u32 %r20, [rounds];", "ld.param.u64 %rd9, [wrong];"),
            *_thread(),
            "and.b32 %r3, %r3, 4095;",
            *_fragments(),
            *(line for n in range(4 * _TILES) for line in _start(n, n)),
            "BURN:",
            *(_product(tile, "%r34, %r35") for tile in tiles),
            *(_product(tile, "%r36, %r37") for tile in tiles),
            *("sub.u32 %r20, %r20, 1;", "setp.ne.u32 %p1, %r20, 0;", "@%p1 bra BURN;"),
            "mov.u32 %r16, 0;",
            *(line for n in range(4 * _TILES) for line in _compared(n)),
            *("setp.eq.u32 %p6, %r16, 0;", "@%p6 bra DONE;"),
            *("atom.global.add.u32 %r17, [%rd9], %r16;", "DONE:"),
        ),
    )


_TILES = 8
# Of the 16 pairs of numbers that a product adds up, the first is k + 1 times a number of the row,
# the second one of these times a number of the column: m, c of (m * k + c) mod 16 + 1. Both have
# the sum 1,056; the second is subtracted.
_ADDED, _TAKEN = (9, 11), (5, 5)


def _fragments() -> Iterator[str]:
    """A thread's part of the factors, as mma.m16n8k16 has it (PTX ISA, matrix fragments): of the
    first the rows lane / 4 and 8 more, of the second the column lane / 4, and four k of each."""
    yield from (
        "and.b32 %r21, %r2, 31;",
        "shr.u32 %r22, %r21, 2;",
        "and.b32 %r23, %r21, 3;",
        "shl.b32 %r23, %r23, 1;",
        "and.b32 %r24, %r22, 3;",
        "add.u32 %r24, %r24, 1;",  # of the row
        "shr.u32 %r25, %r22, 1;",
        "add.u32 %r25, %r25, 1;",  # of the row 8 further on
    )
    for register, row, k in ((30, 24, 0), (31, 25, 0), (32, 24, 8), (33, 25, 8)):
        yield from _pair(register, row, (1, 0), k, "")
    for first, (by, sign) in ((34, (_ADDED, "")), (36, (_TAKEN, "neg"))):
        yield from _pair(first, 24, by, 0, sign)
        yield from _pair(first + 1, 24, by, 8, sign)


def _pair(register: int, factor: int, by: tuple[int, int], k: int, sign: str) -> Iterator[str]:
    """Two numbers of half precision, for k and k + 1 of this thread."""
    for half in range(2):
        yield from (
            f"add.u32 %r26, %r23, {k + half};",
            f"mad.lo.u32 %r26, %r26, {by[0]}, {by[1]};",
            "and.b32 %r26, %r26, 15;",
            "add.u32 %r26, %r26, 1;",
            f"mul.lo.u32 %r26, %r26, %r{factor};",
            *(("neg.s32 %r26, %r26;",) if sign else ()),
            f"cvt.rn.f16.s32 %h{half}, %r26;",
        )
    yield f"mov.b32 %r{register}, {{%h0, %h1}};"


def _product(tile: int, second: str) -> str:
    sums = ", ".join(f"%f{4 * tile + n}" for n in range(4))
    return (
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        f"{{{sums}}}, {{%r30, %r31, %r32, %r33}}, {{{second}}}, {{{sums}}};"
    )


def _start(accumulator: int, register: int) -> tuple[str, str]:
    """An integer of at most 21 bits, so that nothing of it is ever rounded."""
    value = f"mad.lo.u32 %r21, %r3, 16, {accumulator + 1};"
    return value, f"cvt.rn.f32.u32 %f{register}, %r21;"


def _compared(accumulator: int) -> tuple[str, ...]:
    return (
        *_start(accumulator, 44),
        f"setp.neu.f32 %p2, %f{accumulator}, %f44;",
        "@%p2 add.u32 %r16, %r16, 1;",
    )


def _thread() -> tuple[str, ...]:
    return (
        "mov.u32 %r0, %ctaid.x;",
        "mov.u32 %r1, %ntid.x;",
        "mov.u32 %r2, %tid.x;",
        "mad.lo.u32 %r3, %r0, %r1, %r2;",
    )


def _walk() -> Iterator[str]:
    """Over the words of 16 bytes, whose number is in %rd2; the loop's end is `_next`."""
    yield from (
        "ld.param.u64 %rd1, [start];",
        "ld.param.u64 %rd2, [count];",
        "ld.param.u32 %r4, [seed];",
        "ld.param.u32 %r5, [factor];",
    )
    yield from _thread()
    yield from (
        "mov.u32 %r10, %nctaid.x;",
        "mul.lo.u32 %r11, %r10, %r1;",
        "cvt.u64.u32 %rd3, %r3;",
        "cvt.u64.u32 %rd4, %r11;",
        "setp.ge.u64 %p1, %rd3, %rd2;",
        "@%p1 bra DONE;",
        "WALK:",
        "shl.b64 %rd5, %rd3, 4;",
        "add.u64 %rd6, %rd1, %rd5;",
    )


def _pattern() -> tuple[str, ...]:
    """Without a factor each word is the seed, else it says where it is."""
    return (
        "cvt.u32.u64 %r18, %rd3;",
        "shl.b32 %r18, %r18, 2;",
        "mad.lo.u32 %r6, %r18, %r5, %r4;",
        "add.u32 %r7, %r6, %r5;",
        "add.u32 %r8, %r7, %r5;",
        "add.u32 %r9, %r8, %r5;",
    )


def _next() -> tuple[str, ...]:
    return (
        "NEXT:",
        "add.u64 %rd3, %rd3, %rd4;",
        "setp.lt.u64 %p1, %rd3, %rd2;",
        "@%p1 bra WALK;",
        "DONE:",
    )


def _kernel(name: str, parameters: tuple[str, ...], lines: tuple[str, ...]) -> str:
    given = ", ".join(f".param {one}" for one in parameters)
    body = "\n".join(("  .reg .pred %p<8>;", *_REGISTERS, *(f"  {line}" for line in lines)))
    return f".visible .entry {name}({given})\n{{\n{body}\n  ret;\n}}\n"


_REGISTERS = (
    "  .reg .b32 %r<40>;",
    "  .reg .b64 %rd<12>;",
    "  .reg .f32 %f<48>;",
    "  .reg .f16 %h<2>;",
)
