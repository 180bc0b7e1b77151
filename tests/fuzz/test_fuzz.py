"""Every surface, with a bounded number of inputs; `make fuzz` goes on for as long as is wished."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.surface import Surface
from tests.fuzz.surfaces import SURFACES

ROOT = Path(__file__).parents[2]
# `make fuzz` gives a number that is not 0: as many times the inputs, drawn anew each time.
TIMES = int(os.environ.get("FUZZ_TIMES", "0"))


def inputs(surface: Surface) -> st.SearchStrategy[bytes]:
    """Words in any order with any bytes between them, and seeds with some of it put in."""
    piece = st.binary(max_size=12)
    if surface.words:
        piece = st.one_of(st.sampled_from(surface.words), piece)
    edit = st.tuples(st.integers(0, 1 << 12), st.integers(0, 8), piece)
    seed = st.integers(0, len(surface.seeds) - 1).map(surface.seeds.__getitem__)
    changed = st.tuples(seed, st.lists(edit, min_size=1, max_size=4))
    return st.one_of(st.lists(piece, max_size=24).map(b"".join), changed.map(_changed))


def _changed(change: tuple[bytes, list[tuple[int, int, bytes]]]) -> bytes:
    data, edits = change
    for place, cut, piece in edits:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + cut :]
    return data


@pytest.mark.timeout(0 if TIMES else 300)
@pytest.mark.parametrize("name", sorted(SURFACES))
def test_any_bytes_are_a_value_or_an_error_of_ours(name: str) -> None:
    surface = SURFACES[name]
    for seed in surface.seeds:
        surface.target(seed)

    @settings(
        max_examples=surface.examples * max(TIMES, 1),
        derandomize=not TIMES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(surface))
    def hold(data: bytes) -> None:
        surface.target(data)

    hold()


def test_every_parser_of_host_and_vendors_is_fuzzed() -> None:
    folders = ("host", "vendors", "schema.py", "config/config.py")
    files = [f for name in folders for f in _sources(ROOT / "deviceplugin" / name)]
    parsers = {n for f in files for n in re.findall(r"(?m)^def (parse_\w+)", f.read_text())}
    fuzzed = "\n".join(
        f.read_text() for f in Path(__file__).parent.glob("*.py") if f.name != "test_fuzz.py"
    )
    missing = {n for n in parsers if not re.search(rf"\b{n}\b(?! as)", fuzzed)}
    assert missing == {"parse_sections"}  # which takes what is decoded already


def _sources(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]
