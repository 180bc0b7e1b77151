"""What a test's outcome means: against what the product can do, what the GPU did before, and what
its peers on the node do; pure.

No program reaches the published bandwidth or throughput, so a threshold of 95 % is one of what a
GPU that is well reaches: the median of its own earlier tests or of its peers' latest ones,
whichever is more. Before there are any it is the usual part of what the product's clocks and units
allow, and what lacks only against that is a warning.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from types import MappingProxyType

from deviceplugin.diagnose.active.values import CELSIUS, Outcome, Past, Wish
from deviceplugin.diagnose.model import Judged, Result, Verdict, failed, passed, skipped, warned
from deviceplugin.documents.diagnostics import COMPUTE_TEST, MEMORY_TEST, THERMAL_TEST
from deviceplugin.names import one_line

USUAL: Mapping[str, float] = MappingProxyType({MEMORY_TEST: 0.85, COMPUTE_TEST: 0.85})
HOPELESS = 0.5  # of what is usual: no product is as far from it
ENOUGH = 3  # earlier or peers' outcomes that say what is usual
OUTLIER = 3.5  # modified z-score (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)
NOTABLE = 0.05  # of the median: what differs by less does not matter, however equal the others are
_SCALED = 0.6745  # of a median absolute deviation: a standard deviation of what is normal
_REPLACE = "keep it cordoned and replace it; the vendor's field diagnostic confirms it"
_COOL = "check air flow, fans, heat sink and power supply, and what its neighbours give off"
_SOURCES = MappingProxyType(
    {
        MEMORY_TEST: "patterns written and read back",
        COMPUTE_TEST: "arithmetic in single precision and on tensor cores, each result checked",
        THERMAL_TEST: "the hottest sensor of the GPU while it computes",
    }
)


def judged(outcome: Outcome, wish: Wish, past: Sequence[Past]) -> Judged:
    """Of one test, with what is known of earlier ones."""
    if (broken := _broken(outcome)) is not None:
        return broken
    if outcome.problem or outcome.value is None:
        good = outcome.said is True and not outcome.problem
        text = f"{outcome.tool} says that it passes"
        return passed(text) if good else skipped(outcome.problem or "nothing was measured")
    if wish.test == THERMAL_TEST:
        return _heat(outcome.value, wish)
    return _rate(outcome, outcome.value, wish, past)


def _broken(outcome: Outcome) -> Judged | None:
    """What no threshold is needed for."""
    if outcome.wrong:
        return failed(f"{outcome.wrong} wrong results ({_measured(outcome)})", _REPLACE)
    if outcome.problem and outcome.broken:
        return failed(outcome.problem, "run it again; what fails twice is replaced")
    if outcome.stopped:
        return failed(outcome.problem, _COOL)
    if outcome.said is False:
        return failed(f"{outcome.tool} says that it fails ({_measured(outcome)})", _REPLACE)
    return None


def _heat(value: float, wish: Wish) -> Judged:
    text = f"{value:g} {CELSIUS} at the hottest"
    if value <= wish.threshold:
        return passed(text)
    return failed(text, _COOL)


def _rate(outcome: Outcome, value: float, wish: Wish, past: Sequence[Past]) -> Judged:
    usual, by = expected(outcome, past)
    if usual is None and outcome.said:
        return passed(f"{_measured(outcome)}; {outcome.tool} says that it passes")
    if usual is None:
        return skipped(f"{_measured(outcome)}: nothing is known to compare it with")
    text = f"{_measured(outcome)}, {100 * value / usual:.1f} % of {by}"
    action = "look for heat and a lowered power limit (deviceplugin diagnose), then test it again"
    if value >= wish.threshold * usual:
        return _beside_peers(outcome, value, text, past)
    known = by != _BY_ROOF or value < HOPELESS * usual
    return failed(text, action) if known else warned(text, f"{action}; nothing else is known yet")


_BY_ROOF = "what the product usually reaches"


def expected(outcome: Outcome, past: Sequence[Past]) -> tuple[float | None, str]:
    """What the test should reach, and what that is; None where nobody can say."""
    alike = [one for one in past if comparable(outcome, one.outcome)]
    own = _values(one for one in alike if one.outcome.device == outcome.device)
    peers = list(_latest(outcome, alike).values())
    found = [
        (median(values), by)
        for values, by in ((own, "its own median"), (peers, "its peers' median"))
        if len(values) >= ENOUGH
    ]
    if found:
        return max(found)
    if outcome.roof is None:
        return None, ""
    return USUAL[outcome.test] * outcome.roof, _BY_ROOF


def comparable(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes are of the same product, test, tool and length."""
    return (one.product, one.test, one.tool, one.short) == (
        *(other.product, other.test),
        *(other.tool, other.short),
    )


def _beside_peers(outcome: Outcome, value: float, text: str, past: Sequence[Past]) -> Judged:
    alike = [one for one in past if comparable(outcome, one.outcome)]
    peers = list(_latest(outcome, alike).values())
    if len(peers) >= ENOUGH and is_outlier(value, peers):
        return warned(f"{text}; its peers reach {median(peers):.4g}", "compare it with its peers")
    return passed(text)


def is_outlier(value: float, peers: Sequence[float]) -> bool:
    """Whether the value is far below the peers, by median and median absolute deviation."""
    middle = median(peers)
    if value >= middle * (1 - NOTABLE):
        return False
    spread = median(abs(one - middle) for one in peers)
    return not spread or _SCALED * (middle - value) / spread > OUTLIER


def _latest(outcome: Outcome, alike: Sequence[Past]) -> dict[str, float]:
    """The newest value of each other GPU."""
    return {
        one.outcome.device: one.outcome.value
        for one in sorted(alike, key=lambda one: one.at)
        if one.outcome.device != outcome.device and _is_good(one)
        if one.outcome.value is not None
    }


def _values(past: Iterable[Past]) -> list[float]:
    found = [one.outcome.value for one in past if _is_good(one)]
    return [value for value in found if value is not None]


def _is_good(one: Past) -> bool:
    """What has failed is no measure for others."""
    return one.verdict in (Verdict.PASS, Verdict.WARN)


def _measured(outcome: Outcome) -> str:
    if outcome.value is None:
        return "nothing was measured"
    text = f"{outcome.value:.4g} {outcome.unit}"
    if outcome.covered is not None:
        text += f" over {100 * outcome.covered:.0f} % of the memory"
    if outcome.tensor is not None:
        text += f" (tensor cores {outcome.tensor:.4g} {outcome.unit})"
    return text


def result_of(outcome: Outcome, wish: Wish, found: Judged) -> Result:
    """As a check of the diagnosis."""
    wrong = found.verdict in (Verdict.FAIL, Verdict.WARN)
    return Result(
        check=outcome.test,
        subject=outcome.device,
        verdict=found.verdict,
        value=one_line(found.value, 300),
        expected=_expected(wish),
        source=f"{outcome.tool}: {_SOURCES[outcome.test]}",
        action=one_line(found.action, 300) if wrong else "",
    )


def _expected(wish: Wish) -> str:
    if wish.test == THERMAL_TEST:
        return f"no sensor above {wish.threshold:g} {CELSIUS}"
    return f"no wrong result, and {100 * wish.threshold:g} % of what is usual"


def why_kept(outcomes: Sequence[tuple[Outcome, Judged]]) -> str:
    """Why a GPU stays cordoned after its tests: it computes or remembers wrongly, or does not end.
    One that is slow or hot is given back, for its owner to decide."""
    for outcome, found in outcomes:
        if found.verdict is Verdict.FAIL and (
            outcome.wrong or outcome.broken or outcome.said is False
        ):
            return one_line(f"it failed its {outcome.test}: {found.value}", 300)
    return ""


def refused(device: str, why: str) -> Result:
    """A GPU that is not tested now."""
    return Result(
        check=CHECK,
        subject=device,
        verdict=Verdict.SKIPPED,
        value=one_line(why, 300),
        expected=_FREE,
        source="the running daemon's ledger, and the driver's processes",
        action="",
    )


def unwell(device: str, what: str, verdict: Verdict = Verdict.FAIL) -> Result:
    """What came of the tests beside their results."""
    return Result(
        check=CHECK,
        subject=device,
        verdict=verdict,
        value=one_line(what, 300),
        expected="given back after its tests, without a fault",
        source="the running daemon and its probe",
        action="see deviceplugin health; deviceplugin uncordon ends a cordon",
    )


CHECK = "active_test"
_FREE = "a whole GPU that no pod holds and no process uses"
