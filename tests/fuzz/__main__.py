"""`make fuzz`: each surface for a while, guided by coverage.

    python -m tests.fuzz [--seconds N] [--input FILE] [surface ...]

Where atheris is not installed (it has no wheel for this Python), hypothesis draws the inputs.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".fuzz"
# An input that takes longer, or more memory, is reported as a crash.
INPUT_S, MEMORY_MIB, MAX_BYTES = 20, 2048, 1 << 16
# Modules whose coverage guides: ours. protobuf, YAML and the rest only slow it down.
OURS = ["deviceplugin"]


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    if options.child:
        _fuzz(options.surfaces[0], options.seconds)
    if options.input:
        return _repeat(options.surfaces[0], options.input)
    if importlib.util.find_spec("atheris") is None:
        return _without_atheris(options)
    names = options.surfaces or _names()
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        well = list(cores.map(lambda name: _guided(name, options.seconds), names))
    failed = [name for name, fine in zip(names, well, strict=True) if not fine]
    print(f"{len(failed)} of {len(names)} surfaces failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("surfaces", nargs="*", metavar="surface", choices=[[], *_names()])
    parser.add_argument("--seconds", type=int, default=60, help="for each surface")
    parser.add_argument("--input", type=Path, help="try the bytes of this file on one surface")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names() -> list[str]:
    from tests.fuzz.surfaces import SURFACES  # noqa: PLC0415  # atheris comes before what it guides

    return sorted(SURFACES)


def _guided(name: str, seconds: int) -> bool:
    """One surface in a process of its own: libFuzzer ends the process that it runs in."""
    command = [sys.executable, "-m", "tests.fuzz", "--child", "--seconds", str(seconds), name]
    (FOLDER / "found").mkdir(parents=True, exist_ok=True)
    before = _found(name)
    with (FOLDER / f"{name}.log").open("wb") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    lines = (FOLDER / f"{name}.log").read_text(errors="replace").splitlines()
    start = next((n for n, line in enumerate(lines) if "===" in line), 0)  # the traceback
    told = [f"== {name}", *(lines[-1:] if status == 0 else lines[start:])]
    for path in sorted(_found(name) - before):
        told.append(f"again: {sys.executable} -m tests.fuzz --input {path} {name}")
    print("\n".join(told), flush=True)
    return status == 0


def _found(name: str) -> set[Path]:
    return set((FOLDER / "found").glob(f"{name}-*"))


def _fuzz(name: str, seconds: int) -> None:
    """Does not return. The corpus is kept from run to run, the surface's seeds are put into it."""
    import atheris  # noqa: PLC0415  # an extra; and it must come before what it guides

    with atheris.instrument_imports(include=OURS, enable_loader_override=False):
        from tests.fuzz.surfaces import SURFACES  # noqa: PLC0415
    from tests.fuzz.surface import be_quiet  # noqa: PLC0415

    be_quiet()
    surface, corpus = SURFACES[name], FOLDER / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(surface.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = FOLDER / f"{name}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in surface.words if word))
    flags = {
        "max_total_time": seconds,
        "timeout": INPUT_S,
        "rss_limit_mb": MEMORY_MIB,
        "max_len": MAX_BYTES,
        **({"dict": words} if surface.words else {}),
        "artifact_prefix": FOLDER / "found" / f"{name}-",
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{key}={value}" for key, value in flags.items()), str(corpus)],
        surface.target,
    )
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word[:60])


def _repeat(name: str, path: Path) -> int:
    """The traceback of one input; silence where it is well."""
    from tests.fuzz.surfaces import SURFACES  # noqa: PLC0415

    SURFACES[name].target(path.read_bytes())
    return 0


def _without_atheris(options: argparse.Namespace) -> int:
    print("atheris is not installed here: hypothesis draws the inputs, not guided by coverage")
    wanted = " or ".join(f"[{name}]" for name in options.surfaces)
    times = str(max(options.seconds // 2, 1))  # what CI tries takes about two seconds a surface
    command = [sys.executable, "-m", "pytest", "tests/fuzz", "-n", "auto", "-k", wanted]
    return subprocess.run(command, env=os.environ | {"FUZZ_TIMES": times}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
