"""The kernels that test a GPU, as PTX that the driver compiles for whatever GPU it is; pure.

Each thread steps through its part of the work by the size of the grid. What is wrong is counted in
memory that the caller has cleared: a count of 32 bits, saturated by nothing, since each pass is
read before the next one.
"""

from collections.abc import Iterator

FILL, CHECK, BURN = "deviceplugin_fill", "deviceplugin_check", "deviceplugin_burn"
ACCUMULATORS = 16
UNROLLED = 4
# Of one round of the burning loop in a thread: each step is a multiplication and an addition.
STEPS_A_ROUND = 2 * ACCUMULATORS * UNROLLED
_HEAD = ".version 6.0\n.target sm_60\n.address_size 64\n"


def module_text() -> str:
    """All kernels as one module."""
    return f"{_HEAD}\n{_fill()}\n{_check()}\n{_burn()}\n"


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


_REGISTERS = ("  .reg .b32 %r<24>;", "  .reg .b64 %rd<12>;", "  .reg .f32 %f<48>;")
