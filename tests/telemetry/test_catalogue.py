"""Every metric of every vendor has a test with a value of its own: over the whole catalogue."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from deviceplugin.telemetry.catalogue import MEASURED, METRICS
from deviceplugin.telemetry.derived import DERIVED
from deviceplugin.telemetry.metrics import Known
from deviceplugin.telemetry.model import ProcessUse
from tests.telemetry import test_amd_values as amd
from tests.telemetry import test_intel_engines as engines
from tests.telemetry import test_intel_values as intel
from tests.telemetry import test_nvidia_values as nvidia
from tests.telemetry.test_exposition import NOW, WHOLE, A, reading, samples, text_of, view_of, whole

Table = Mapping[str, float]
# What the tests of each vendor expect of one device at one moment.
TABLES: Mapping[str, Sequence[Table]] = {
    "nvidia": (nvidia.WHOLE | nvidia.RATES,),
    "amd": (amd.SHOWN, amd.OF_TABLE, amd.OLDER, amd.RESIDENCIES),
    "intel": (intel.SHOWN, intel.DIFFERENCES, intel.ERRORS, engines.SHOWN),
}
# Of these there is nothing but 0 and 1, or nothing on the device itself: other tests look at them.
FLAGS = ("throttled", "ecc_enabled", "row_remap_pending", "row_remap_failed")
OF_PROCESSES = {("intel", "memory_used_bytes")}


def keys(vendor: str) -> set[str]:
    return {name.partition(" ")[0] for table in TABLES[vendor] for name in table}


@pytest.mark.parametrize("metric", MEASURED, ids=lambda metric: metric.key)
def test_each_vendor_that_has_a_metric_has_a_test_of_its_value(metric: object) -> None:
    known = METRICS[metric.key]  # type: ignore[attr-defined]  # pytest's parameters are objects
    for vendor in known.sources:
        assert known.key in keys(vendor) or (vendor, known.key) in OF_PROCESSES


@pytest.mark.parametrize("vendor", TABLES)
def test_no_vendor_is_tested_for_what_the_catalogue_does_not_say(vendor: str) -> None:
    assert keys(vendor) <= {m.key for m in MEASURED if vendor in m.sources}


@pytest.mark.parametrize("vendor", TABLES)
def test_no_two_values_of_a_table_are_alike(vendor: str) -> None:
    for table in TABLES[vendor]:
        plain = {n: v for n, v in table.items() if n.partition(" ")[0] not in FLAGS}
        assert {v for v, count in Counter(plain.values()).items() if count > 1} == set()


@pytest.mark.parametrize("vendor", TABLES)
def test_flags_that_stand_together_are_not_all_alike(vendor: str) -> None:
    flags = {v for t in TABLES[vendor] for n, v in t.items() if n.startswith("throttled reason")}
    assert flags == {0, 1}


def test_every_derived_metric_has_a_value_of_its_own() -> None:
    processes = (
        ProcessUse(pid=1, device=WHOLE.id, memory_bytes=50, utilization_ratio=0.25, owner=A),
        ProcessUse(pid=2, device=WHOLE.id, memory_bytes=20, utilization_ratio=0.125, owner=A),
        ProcessUse(pid=3, device=WHOLE.id, memory_bytes=7),
    )
    events = {
        (str(WHOLE.id), "nvidia.xid", "79"): 11,
        (str(WHOLE.id), "kernel.wedged", "rebind"): 12,
    }
    known = Known(events=events, resets={WHOLE.id: 13}, drivers={"nvidia": "580"})
    one = replace(whole(reading("power_watts", 1.0)), shares=((A, 0.5),))
    text = text_of(view_of(one, processes=processes), known=known)
    expected = {
        "up": 1,
        "last_seen_timestamp_seconds": NOW - 4,
        "reading_age_seconds": 4,
        "info": 1,
        "xid_errors_total": 11,
        "wedged_total": 12,
        "resets_total": 13,
        "processes": 2,
        "pod_allocated_ratio": 0.5,
        "pod_memory_used_bytes": 70,
        "pod_utilization_ratio": 0.375,
        "pod_processes": 2,
    }
    assert expected.keys() == {metric.key for metric in DERIVED}
    for key, value in expected.items():
        found = samples(text, METRICS[key].name)
        assert found[0][1] == value, key
