"""Our daemon passes every line that can be seen, and so does the complete small plugin."""

from pathlib import Path
from typing import Any

from deviceplugin.testing.conformance.runner import Result, run_suite
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Outcome
from tests.conformance.defects import started_as
from tests.conformance.node import AMD, INTEL, NVIDIA, hooks, settings_for, three_vendors
from tests.conformance.smallplugin import KNOWN, Plugin, running
from tests.fakes.nvml import NvmlDouble
from tests.rig import Rig

# Limits are figures of a quiet machine; here they only say that nothing waits for ever.
PATIENT: dict[str, Any] = {"slack": 100.0, "restarts": 5, "settle_s": 0.3, "early_s": 0.5}
NOT_ASKED_FOR = "PreStartContainer is not asked for"
DRA = dict.fromkeys(range(71, 77), "the suite speaks the device plugin API only")
HIDDEN = DRA | {
    15: "the suite's kubelet takes registrations by Register only",
    19: "this is the plugin's configuration",
    56: "it would take the weeks",
    62: "what the container then has is inside the container",
    65: "what the plugin makes of the answer stays in the plugin",
    68: "a loop cannot be stuck from outside",
    70: "each plugin names its metrics as it likes",
}


def outcomes(result: Result, outcome: Outcome) -> dict[int, str]:
    return {v.line.number: v.seen for v in result.verdicts if v.outcome is outcome}


def assert_skips(result: Result, expected: dict[int, str]) -> None:
    skips = outcomes(result, Outcome.SKIP)
    assert skips.keys() == expected.keys(), skips
    for line, reason in expected.items():
        assert reason in skips[line]


async def test_our_daemon_passes_on_a_node_of_three_vendors(rig: Rig) -> None:
    double = three_vendors(rig)
    names = NVIDIA + AMD + INTEL
    result = await run_suite(settings_for(rig, resources=names, **PATIENT, **hooks(rig, double)))
    assert outcomes(result, Outcome.FAIL) == {}
    assert result.resources == tuple(sorted(names))
    assert_skips(
        result,
        HIDDEN | {34: "no device has several NUMA nodes", 57: "looks like one", 61: NOT_ASKED_FOR},
    )


async def test_variables_alone_fail_the_lines_about_variables(rig: Rig, nvml: NvmlDouble) -> None:
    settings = settings_for(rig, "{}", resources=NVIDIA, lines=frozenset({44}), **PATIENT)
    result = await run_suite(settings)
    assert outcomes(result, Outcome.FAIL).keys() == {50, 55}


async def test_the_complete_small_plugin_passes(short_dir: Path) -> None:
    settings = Settings(
        kubelet_dir=short_dir / "k",
        command=started_as(short_dir / "k", short_dir),
        resources=tuple(f"example.com/{kind}" for kind in KNOWN),
        break_command=("touch", str(short_dir / "broken")),
        mend_command=("rm", str(short_dir / "broken")),
        up_s=1.5,
        **PATIENT,
    )
    result = await run_suite(settings)
    assert outcomes(result, Outcome.FAIL) == {}
    assert_skips(
        result,
        HIDDEN
        | {
            34: "no device has several NUMA nodes",
            52: "no answer has CDI names",
            57: "looks like one",
            61: NOT_ASKED_FOR,
            64: "it never asked for pods",
            67: "give --readiness-url",
        },
    )


async def test_a_skip_names_the_option_that_is_missing(short_dir: Path) -> None:
    async with running(Plugin, short_dir):
        settings = Settings(
            kubelet_dir=short_dir / "k",
            lines=frozenset({5, 9, 14, 17, 27, 67}),
            **(PATIENT | {"restarts": 1, "settle_s": 0.05}),
        )
        result = await run_suite(settings)
    assert outcomes(result, Outcome.FAIL) == {}
    skips = outcomes(result, Outcome.SKIP)
    for option, lines in {
        "give its command after --": (5, 14, 16, 17, 66),
        "give --break": (27, 28, 29, 31, 36, 37, 69),
        "give --pid or a command": (18, 35),
        "give --readiness-url": (67,),
        "not asked for": (8, 11, 12, 38, 44, 63),
    }.items():
        assert [line for line in lines if option not in skips[line]] == []


async def test_no_plugin_at_all_is_a_failure(short_dir: Path) -> None:
    result = await run_suite(Settings(kubelet_dir=short_dir / "k", timeout_s=0.2, settle_s=0.05))
    assert outcomes(result, Outcome.FAIL) == {
        18: "no plugin registered and sent a list within 0.2 s"
    }
    assert list((short_dir / "k").iterdir()) == []
