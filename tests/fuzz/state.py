"""Files of the state directory: what is no file of ours is told, and nothing else comes of it."""

import json
import re
from pathlib import Path

import structlog

from deviceplugin.health.file import FILE, read_state, saved, write_state
from deviceplugin.health.records import after_boot, next_lapse, standing
from deviceplugin.health.section import HealthSection
from deviceplugin.placement.service import STATE_FILE, read_turns
from tests.fuzz.surface import Surface, directory, is_line

POLICY = HealthSection()


def fault_memory(data: bytes) -> None:
    """Faults and cordons: read and written again they are the same; garbage is set aside."""
    with directory() as folder:
        path, aside = folder / FILE, folder / f"{FILE}.damaged"
        path.write_bytes(data)
        with structlog.testing.capture_logs() as told:
            state = read_state(folder)
            memory = state.records
        assert [event["event"] for event in told] == ["state_file_damaged"] * aside.exists()
        assert path.exists() != aside.exists()
        if aside.exists():
            assert aside.read_bytes() == data
            assert is_line(told[0]["problem"]), told[0]["problem"]
            assert memory == type(memory)()
        content = saved(memory, state.document)
        write_state(folder, content)
        found = read_state(folder)
        again = found.records
        assert saved(again, found.document) == content
        assert again.cordons == memory.cordons
        assert again.boots == memory.boots
    faults = standing(after_boot(memory, "another boot"), 1e9, POLICY)
    assert [f.key for f in faults] == sorted(f.key for f in faults)
    lapse = next_lapse(memory, 1e9, POLICY)
    assert lapse is None or lapse > 1e9


def placement(data: bytes) -> None:
    """Whose turn it is: a damaged file is told, and left as it is."""
    with directory() as folder:
        path = folder / STATE_FILE
        path.write_bytes(data)
        with structlog.testing.capture_logs() as told:
            turns, _ = read_turns(path)
        assert path.read_bytes() == data
        if told:
            assert turns == {}
            assert told[0]["event"] == "state_ignored"
            return
        _again(path, {str(name): str(gpu) for name, gpu in turns.items()})


def _again(path: Path, turns: dict[str, str]) -> None:
    path.write_text(json.dumps({"handed_out": turns}))
    assert read_turns(path)[0] == turns


FAULT = {
    "device": "GPU-1",
    "source": "nvidia.xid",
    "code": "79",
    "reason": "fell off the bus",
    "kind": "reboot",
    "action": "reboot",
    "since": 5.0,
    "boot": "b",
    "mark": 7,
    "times": [5.0, 6.0],
    "of_tomorrow": {"a": [1]},
}
MEMORY = {
    "version": 1,
    "faults": [FAULT, {**FAULT, "kind": "warn", "code": "31", "boot": None, "mark": None}],
    "boots": [{"device": "GPU-1", "source": "a", "code": "1", "boots": [["b", 5.0]]}],
    "cordons": [{"device": "GPU-1", "reason": "new paste", "since": 1}],
}
TURNS = b'{"handed_out": {"nvidia.com/gpu": "GPU-1"}}'
WORDS = (
    *re.findall(rb'"\w+":', json.dumps(MEMORY).encode()),
    *(b"{", b"}", b"[", b"]", b",", b'"', b"null", b"true", b"-1", b"1e308", b"1e999", b"NaN"),
    *(b"\\ud800", b"\xff", b"\0", b"\\u0000", b"9" * 30, b"reset", b"[" * 500),
)
SURFACES = {
    "fault_memory": Surface(
        target=fault_memory,
        seeds=(
            json.dumps(MEMORY).encode(),
            b'{"version": 1}',
            b'{"version":1,"faults":' + b"[" * 200_000,
            b'{"version": 2}',
            b"",
        ),
        words=WORDS,
    ),
    "placement_state": Surface(
        target=placement,
        seeds=(TURNS, b"[" * 200_000, b'{"handed_out": {"a": ' + b"9" * 5000 + b"}}", b""),
        words=(*WORDS, b'"handed_out": {'),
    ),
}
