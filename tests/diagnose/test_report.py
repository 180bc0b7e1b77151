"""A diagnosis as document, table and JUnit, and the archive for support."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from xml.dom.minidom import parseString

import pytest

from deviceplugin.diagnose.bundle import (
    FOLDER,
    MAX_BYTES,
    MAX_FILE_BYTES,
    packed,
    without_secrets,
    write_new,
)
from deviceplugin.diagnose.model import CdiFile, NodeFacts, Snapshot
from deviceplugin.diagnose.redact import Redactor
from deviceplugin.diagnose.report import diagnosis, diagnosis_text, junit_text

STRANGE = '/cdi/<a>&"\x1b.json'
NODE = NodeFacts(
    cdi_files=(CdiFile(path=STRANGE, problem="it cannot be read"), CdiFile(path="/cdi/b.json")),
    clock_synchronised=False,
)
DOCUMENT = diagnosis(Snapshot(node_name="n1", taken_at=0.0, window_s=1.0, node=NODE))


def test_the_document_says_what_was_found_and_what_it_amounts_to() -> None:
    assert DOCUMENT["verdict"] == "fail"
    assert DOCUMENT["taken_at"] == "1970-01-01T00:00:00Z"
    assert DOCUMENT["counts"] == {"fail": 1, "warn": 1, "pass": 2, "skipped": 7}
    (clock,) = (one for one in DOCUMENT["checks"] if one["check"] == "host_clock")
    assert clock == {
        "check": "host_clock",
        "subject": "node",
        "verdict": "warn",
        "value": "not synchronised",
        "expected": "synchronised",
        "source": "adjtimex(2)",
        "action": "start chronyd or systemd-timesyncd on the node",
    }
    json.dumps(DOCUMENT)


def test_the_table_has_the_worst_first_and_what_to_do() -> None:
    lines = diagnosis_text(DOCUMENT).splitlines()
    assert lines[0] == "Node n1, 1970-01-01T00:00:00Z: 1 fail, 1 warn, 2 pass, 7 skipped"
    assert lines[3].split()[:2] == ["fail", "cdi_files"]
    assert lines[4].split()[:2] == ["warn", "host_clock"]
    assert "  do: start chronyd or systemd-timesyncd on the node" in lines
    assert "\x1b" not in diagnosis_text(DOCUMENT)


def test_junit_has_a_case_for_each_result() -> None:
    (suite,) = parseString(junit_text(DOCUMENT)).getElementsByTagName("testsuite")  # noqa: S318  # ours
    assert suite.getAttribute("tests") == str(len(DOCUMENT["checks"]))
    assert (suite.getAttribute("failures"), suite.getAttribute("skipped")) == ("1", "7")
    assert len(suite.getElementsByTagName("failure")) == 1
    assert len(suite.getElementsByTagName("skipped")) == 7
    assert len(suite.getElementsByTagName("system-out")) == 1
    names = [case.getAttribute("classname") for case in suite.getElementsByTagName("testcase")]
    assert '/cdi/<a>&"\ufffd.json' in names


def unpacked(content: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as archive:
        return {
            member.name.removeprefix(f"{FOLDER}/"): (archive.extractfile(member) or io.BytesIO())
            .read()
            .decode()
            for member in archive
        }


def redactor() -> Redactor:
    return Redactor("key", ("gpu-node-7.corp",))


UUID = "GPU-5f1c7e02-d4a8-6f90-1234-0123456789ab"
SECRET = {
    "auth": {"bearer_token": "hunter2", "token_file": "/etc/token", "retries": 3},
    "held_by": [{"namespace": "team", "pod": "train-0", "container": "main"}] * 2,
    "key": "visible",
}


def test_nothing_that_identifies_the_machine_is_in_the_archive() -> None:
    text = f"{UUID} gpu-node-7.corp amd-e3aa140f9a5f9e31 02:42:ac:11:00:02"
    found = unpacked(packed({"a.txt": text, "gpu-node-7.corp.json": "{}"}, redactor()))
    everything = " ".join([*found, *found.values()])
    for value in (*text.split(), UUID.removeprefix("GPU-"), "e3aa140f9a5f9e31"):
        assert value not in everything
    assert "UUID: 1" in found["MANIFEST"]
    assert "unique id: 1" in found["MANIFEST"]


def test_equal_content_makes_equal_bytes() -> None:
    assert packed({"a": UUID}, redactor()) == packed({"a": UUID}, redactor())


def test_secrets_and_pods_are_replaced_and_pods_stay_equal() -> None:
    shown = without_secrets(SECRET, redactor())
    assert shown["auth"] == {"bearer_token": "(removed)", "token_file": "(removed)", "retries": 3}
    first, second = shown["held_by"]
    assert first == second
    assert first["pod"].startswith("pod-")
    assert not {"team", "train-0", "main"} & set(first.values())
    assert shown["key"] == "visible"


def test_the_archive_is_bounded_and_says_what_it_left_out() -> None:
    texts = {f"{number:02}.txt": "x" * (2 * MAX_FILE_BYTES) for number in range(20)}
    found = unpacked(packed(texts, redactor()))
    assert sum(map(len, found.values())) <= MAX_BYTES + MAX_FILE_BYTES
    assert all(len(text) <= MAX_FILE_BYTES for text in found.values())
    assert "at most 1 MiB" in found["00.txt"]
    assert "  19.txt" in found["MANIFEST"].partition("Left out")[2]


def test_an_archive_replaces_nothing_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    write_new(path, b"one")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_new(path, b"two")
    assert path.read_bytes() == b"one"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "link", b"three")
