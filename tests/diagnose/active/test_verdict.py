"""What outcomes of tests mean, and what is kept of them."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.diagnose.active.history import (
    FILE,
    MAX_KEPT,
    latest,
    newest,
    read_past,
    write_past,
)
from deviceplugin.diagnose.active.values import Outcome, Past, Wish, wishes
from deviceplugin.diagnose.active.verdict import is_outlier, judged, result_of, why_kept
from deviceplugin.documents.diagnostics import Diagnostics, DiagnosticTest
from deviceplugin.model import DeviceID

MEMORY = Wish(test="memory_test", seconds=300, threshold=0.95)
HEAT = Wish(test="thermal_test", seconds=900, threshold=85)
OUTCOME = Outcome(
    test="memory_test", device=DeviceID("GPU-0"), product="H", tool="our kernels", roof=1000.0
)
WARM = replace(OUTCOME, test="thermal_test", roof=None)


def of(value: float | None, **changes: object) -> Outcome:
    return replace(OUTCOME, value=value, **changes)


def past(value: float, device: str = "GPU-0", at: float = 1.0, verdict: str = "pass") -> Past:
    outcome = of(value, device=DeviceID(device))
    return Past(at=at, outcome=outcome, verdict=verdict, text="")


OWN = [past(900.0, at=float(n)) for n in range(3)]
PEERS = [past(value, f"GPU-{n}") for n, value in enumerate((900.0, 902.0, 898.0, 901.0), 1)]


@pytest.mark.parametrize(
    ("outcome", "wish", "known", "verdict", "text"),
    [
        (of(840.0), MEMORY, [], "pass", "98.8 % of what the product usually reaches"),
        (of(800.0), MEMORY, [], "warn", "94.1 % of what the product usually reaches"),
        (of(400.0), MEMORY, [], "fail", "47.1 % of what"),
        (of(860.0), MEMORY, OWN, "pass", "95.6 % of its own median"),
        (of(840.0), MEMORY, OWN, "fail", "93.3 % of its own median"),
        (of(840.0), MEMORY, PEERS, "fail", "93.3 % of its peers' median"),
        (of(840.0), MEMORY, OWN[:2], "pass", "what the product usually reaches"),
        (of(840.0), MEMORY, [past(900.0, verdict="fail")] * 3, "pass", "usually"),
        (of(840.0, short=True), MEMORY, OWN, "pass", "usually"),
        (of(840.0, roof=None), MEMORY, [], "skipped", "nothing is known to compare it with"),
        (of(840.0, wrong=1), MEMORY, [], "fail", "1 wrong results"),
        (of(None, problem="no driver"), MEMORY, [], "skipped", "no driver"),
        (of(None, problem="it hangs", broken=True), MEMORY, [], "fail", "it hangs"),
        (of(None, problem="stopped at 101 °C", stopped=True), MEMORY, [], "fail", "101"),
        (of(None, said=True), MEMORY, [], "pass", "our kernels says that it passes"),
        (of(None, said=False), MEMORY, [], "fail", "our kernels says that it fails"),
        (of(12.0, said=True, roof=None), MEMORY, [], "pass", "12 GB/s"),
        (replace(WARM, value=85.0), HEAT, [], "pass", "85 °C at the hottest"),
        (replace(WARM, value=86.0), HEAT, [], "fail", "86 °C at the hottest"),
    ],
)
def test_an_outcome_is_judged(
    outcome: Outcome, wish: Wish, known: list[Past], verdict: str, text: str
) -> None:
    found = judged(outcome, wish, known)
    assert (found.verdict, text in found.value) == (verdict, True), found
    told = result_of(outcome, wish, found)
    assert bool(told.action) is (verdict in ("warn", "fail"))


def test_a_gpu_far_below_its_peers_is_a_warning_although_it_is_above_the_threshold() -> None:
    wish = replace(MEMORY, threshold=0.9)
    assert judged(of(845.0), wish, PEERS).verdict == "warn"
    assert judged(of(890.0), wish, PEERS).verdict == "pass"


@pytest.mark.parametrize(
    ("value", "peers", "outlier"),
    [
        (100.0, [100.0, 100.0, 100.0], False),
        (96.0, [100.0, 100.0, 100.0], False),
        (90.0, [100.0, 100.0, 100.0], True),
        (90.0, [100.0, 80.0, 120.0], False),
        (200.0, [100.0, 100.0, 100.0], False),
    ],
)
def test_an_outlier_is_far_below_the_median(
    value: float, peers: list[float], *, outlier: bool
) -> None:
    assert is_outlier(value, peers) is outlier


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (of(900.0, wrong=2), True),
        (of(None, problem="it hangs", broken=True), True),
        (of(None, said=False), True),
        (of(100.0), False),
        (of(None, problem="stopped at 101 °C", stopped=True), False),
        (of(None, problem="no driver"), False),
        (of(900.0), False),
    ],
)
def test_only_a_gpu_that_is_wrong_stays_cordoned(outcome: Outcome, *, kept: bool) -> None:
    found = judged(outcome, MEMORY, [])
    assert bool(why_kept([(outcome, found)])) is kept


def test_the_history_is_bounded_and_read_as_it_was_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    many = [past(float(n), f"GPU-{n % 70}", at=float(n)) for n in range(70 * 30)]
    write_past(tmp_path, many)
    found = read_past(tmp_path)
    assert len(found) == 64 * MAX_KEPT
    assert list(found) == newest(many)
    assert found[-1] == many[-1]
    assert len(latest(found)) == 64


def test_a_history_that_is_none_is_done_without(tmp_path: Path) -> None:
    assert read_past(tmp_path) == ()
    (tmp_path / FILE).write_text('{"format": 1, "tests": [{}]}')
    assert read_past(tmp_path) == ()


def test_the_section_says_what_is_run() -> None:
    everything = wishes(None, short=False)
    assert [(one.test, one.seconds, one.threshold) for one in everything] == [
        ("memory_test", 300, 0.95),
        ("compute_test", 600, 0.9),
        ("thermal_test", 900, 85),
    ]
    tests = (DiagnosticTest(name="memory_test", duration="2s", threshold="80 %"),)
    (one,) = wishes(Diagnostics(tests=tests), short=True)
    assert (one.seconds, one.threshold, one.short) == (2.0, 0.8, True)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": "memory_test", "threshold": "95"}, "threshold: a value such as 95%"),
        ({"name": "memory_test", "threshold": "195%"}, "threshold"),
        ({"name": "thermal_test", "threshold": "95%"}, "threshold: a value such as 85°C"),
        ({"name": "thermal_test", "duration": "2d"}, "duration: a time up to 24h"),
        ({"name": "thermal_test", "duration": "1.2.3h"}, "duration"),
    ],
)
def test_a_test_that_cannot_be_is_refused(fields: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DiagnosticTest(**fields)  # type: ignore[arg-type]  # a table of one type
