"""Quantities, names, the selectors of rules, and what the section `health` makes of faults."""

import math
import re

from deviceplugin.config.config import Setting, parse_switch
from deviceplugin.errors import ConfigError
from deviceplugin.health.policy import FaultPolicy, apply_policy, name_of
from deviceplugin.health.records import (
    FaultRecords,
    Timestamp,
    after_reset,
    lapsed,
    next_lapse,
    standing,
    with_event,
)
from deviceplugin.health.section import HealthSection
from deviceplugin.host.drm_clients import parse_client
from deviceplugin.host.perf import parse_format
from deviceplugin.model import DeviceID, Fault, FaultClass, Share
from deviceplugin.names import id_problem, name_problem, size_class
from deviceplugin.resources.rules import fits
from deviceplugin.resources.section import Match, Offer, Rule
from deviceplugin.resources.shares import form_text, possible_shares, share_ids
from deviceplugin.schema import parse_bytes
from deviceplugin.vendor import Repeat
from deviceplugin.vendors.amd.gpu_metrics import parse_gpu_metrics
from deviceplugin.vendors.nvidia.node_facts import parse_host_driver
from tests.fuzz.surface import Source, Surface, text_of
from tests.resources.builders import GIB, gpu

MAX_BYTES = 1 << 60
KINDS = tuple(FaultClass)
CODES = ("79", "31", "hw_slowdown")


def quantities(data: bytes) -> None:
    """A memory size is exact, bounded, and is itself again when it is written in bytes."""
    text = text_of(data)
    try:
        size = parse_bytes(text)
    except ValueError as error:
        assert "memory size" in str(error)
        return
    assert 0 < size <= MAX_BYTES
    assert parse_bytes(str(size)) == parse_bytes(f" {size}B ") == size
    assert parse_bytes(f"{size}Ki") == size << 10 if size <= MAX_BYTES >> 10 else True
    assert int(size_class(size)[:-2]) >= 0


def names(data: bytes) -> None:
    """What is no id of a device or no name of a resource is refused with a reason."""
    text = text_of(data)
    problem = id_problem(text)
    assert (problem is None) == (len(text) <= 63 and bool(_ID.fullmatch(text)))
    reason = name_problem(text)
    assert reason is None or reason
    if reason is None:
        assert len(text.encode()) <= 244 + 1 + 63
        assert text.count("/") == 1
    if problem is None and reason is None:
        assert text.isascii()
    if problem is None:
        _shares(DeviceID(text), len(text))


_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")


def _shares(device: DeviceID, count: int) -> None:
    """The ids of shares are unique, and lead back to the device and to few others."""
    for unit in (None, GIB, 256 << 20):
        share = Share(count=count % 5, whole=None, unit_bytes=unit)
        ids = list(share_ids(device, share))
        assert len(set(ids)) == len(ids) == count % 5
        for one in ids:
            meanings = list(possible_shares(one))
            assert (device, form_text(share)) in meanings
            assert len(set(meanings)) == len(meanings) <= 3


def selectors(data: bytes) -> None:
    """Any glob is matched in the end, and `*` fits whatever is known."""
    source = Source(data)
    glob, product = text_of(source.line())[:200], text_of(source.line())[:200]
    device = gpu(source.number(4), product=product or None)
    offers = (Offer(whole=True),)
    rule = Rule(match=Match(product=glob, index=(0, "1", glob)), offers=offers)
    assert fits(rule, device) in (True, False)
    assert fits(Rule(match=Match(product=("*",)), offers=offers), device) == (product != "")
    assert not fits(Rule(match=Match(profile="*"), offers=offers), device)


def health(data: bytes) -> None:
    """Events, one after the other: a fault stands, escalates or lapses, and never doubles."""
    source = Source(data)
    repeat = Repeat(count=1 + source.number(4), window_s=float(source.number(60)), kind=KINDS[-1])
    section = _section(source, repeat)
    policy = FaultPolicy(section=section, numbered={"xids": "nvidia.xid"})
    memory, now = FaultRecords(), 1000.0
    while source:
        now += source.number(16)
        memory = _next(source, memory, now, policy)
        faults = standing(memory, now, section)
        assert [f.key for f in faults] == sorted({f.key for f in faults})
        assert all(apply_policy(f, policy) is not None for f in faults)
        lapse = next_lapse(memory, now, section)
        assert lapse is None or (lapse > now and math.isfinite(lapse))
        assert lapsed(lapsed(memory, now, section), now, section) == lapsed(memory, now, section)


def _next(source: Source, memory: FaultRecords, now: float, policy: FaultPolicy) -> FaultRecords:
    device = DeviceID(f"GPU-{source.number(2)}")
    if source.number(4) == 0:
        after = after_reset(memory, {device})
        left = [e.fault.kind for e in after.faults.values() if e.fault.device == device]
        assert FaultClass.RESET not in left
        return after
    kind, code = source.choice(KINDS), source.choice(CODES)
    fault = Fault(device=device, source="nvidia.xid", code=code, reason="r", kind=kind)
    kept = apply_policy(fault, policy)
    if kept is None:
        return memory
    moment = Timestamp(now=now, boot=source.choice((None, "a", "b")))
    after = with_event(memory, kept, moment, policy.section)
    assert with_event(memory, kept, moment, policy.section) == after
    assert kept.key in {f.key for f in standing(after, now, policy.section)}
    return after


def _section(source: Source, repeat: Repeat) -> HealthSection:
    words = ("all", "xids", "nvidia.xid", "79", "nvidia.xid/31", "other")
    ttl_s = float(source.number(60))
    disabled = tuple(source.choice(words) for _ in range(source.number(3)))
    enabled = tuple(source.choice(words) for _ in range(source.number(3)))
    fault = Fault(device=DeviceID("a"), source="nvidia.xid", code="31", reason="r", kind=KINDS[0])
    return HealthSection(
        disable=disabled,
        enable=enabled,
        classes={name_of(fault): source.choice(KINDS)},
        event_ttl_s=ttl_s,
        repeats={"nvidia.xid/31": repeat},
    )


def measurements(data: bytes) -> None:
    """What the kernel and a driver say of use is a value or none, whatever it is."""
    client = parse_client(text_of(data), 7, "/dev/dri/renderD128")
    assert client is None or client.pid == 7
    found = parse_gpu_metrics(data)
    assert found is None or (found.energy_j or 0.0) >= 0.0
    place = parse_format(text_of(data))
    assert place is None or (place[1] > 0 and sum(place) <= 64)
    driver = parse_host_driver(data)
    assert driver is None or len(driver) == 2
    try:
        assert parse_switch(Setting(text_of(data), "x")) in (True, False)
    except ConfigError as error:
        assert "true or false" in str(error)


SURFACES = {
    "measurements": Surface(
        target=measurements,
        seeds=(
            b"drm-driver: amdgpu\ndrm-pdev: 0000:05:00.0\ndrm-client-id: 1\ndrm-engine-gfx: 5 ns\n",
            b"\x20\x00\x01\x03" + bytes(300),
            b"true",
            b"config:0-11",
        ),
        words=(b"config:", b"-", b"drm-", b": ", b"KiB", b" ns", b"\n", b"\x01\x05", b"\x09"),
    ),
    "quantities": Surface(
        target=quantities,
        seeds=(b"5GiB", b"4.5 GB", b"9007199254740993", b"9" * 400, b"0", b"1" + b"0" * 20 + b"Ti"),
        words=(b"Gi", b"B", b".", b" ", b"K", b"Ti", b"0", b"9" * 20, "٣".encode(), b"-", b"e5"),
    ),
    "names": Surface(
        target=names,
        seeds=(b"nvidia.com/gpu", b"GPU-1a::0", b"GPU-1a-256mi-m3", b"a" * 64),
        words=(b"/", b"::", b"-m1", b"-256mi", b".", b"kubernetes.io/", b"requests.", b",", b" "),
    ),
    "selectors": Surface(
        target=selectors,
        seeds=(b"*A100*\nNVIDIA A100", b"*a" * 50 + b"\n" + b"a" * 200, b"[!z-a]\nx"),
        words=(b"*", b"?", b"[", b"]", b"!", b"a", b"\n", b"[z-a]", b"**", b"\\"),
    ),
    "health_conditions": Surface(
        target=health, seeds=(bytes(range(64)), b"\1\2\3" * 30), words=(b"\0", b"\1", b"\2", b"\3")
    ),
}
