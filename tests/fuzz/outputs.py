"""Outputs of programs that test GPUs: vendors' tools, and our own child process."""

import json

from deviceplugin.diagnose.active.bench import outcome_of
from deviceplugin.diagnose.active.kfd import parse_location
from deviceplugin.diagnose.active.process import OutputError, Printed, parse_found
from deviceplugin.diagnose.active.tools import parse_burn, parse_dcgm, parse_rvs, parse_xpu
from deviceplugin.diagnose.active.values import Outcome
from deviceplugin.model import DeviceID
from tests.diagnose.active.outputs import BURN, BURN_FAULTY, DCGM, RVS, XPU
from tests.fuzz.surface import Surface, is_line, text_of

BLANK = Outcome(test="memory_test", device=DeviceID("GPU-0"), product="", tool="our kernels")
FOUND = {"product": "H", "value": 1.5, "roof": 2.0, "wrong": 0, "passes": 3, "covered": 0.5}


def tools(data: bytes) -> None:
    """What a tool prints is a verdict with a rate above 0 and a count, or nothing."""
    text = text_of(data)
    for parse in (parse_dcgm, parse_burn, parse_rvs, parse_xpu):
        said = parse(text)
        if said is not None:
            assert said.wrong >= 0
            assert said.value is None or 0 <= said.value < 1e12
    place = parse_location(text)
    assert place is None or min(place) >= 0


def child(data: bytes) -> None:
    """What our child prints is an outcome that has a value or a problem, or one of our errors."""
    try:
        found = parse_found(Printed(text=text_of(data), status=0))
    except OutputError as error:
        assert is_line(str(error))
        return
    outcome = outcome_of(found, BLANK)
    assert (outcome.value is None) == bool(outcome.problem) or outcome.problem
    assert len(outcome.problem) <= 300
    assert outcome.wrong >= 0


SURFACES = {
    "tools of vendors": Surface(
        target=tools,
        seeds=tuple(text.encode() for text in (DCGM, BURN, BURN_FAULTY, RVS, XPU)),
        words=(b"errors: ", b"Gflop/s)", b"met: TRUE", b"Result: Pass", b"0000:07:00.0"),
    ),
    "the child of active tests": Surface(
        target=child,
        seeds=(json.dumps(FOUND).encode(), b'{"problem": "x", "broken": true}', b"[]"),
        words=(b'"wrong"', b"NaN", b"1e999", b"-1", b"true"),
    ),
}
