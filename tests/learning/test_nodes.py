"""Runs as nodes give them: the document, what of it is refused, and owners by names of pods."""

import json
from typing import Any

import pytest

from deviceplugin.learning.nodes import MAX_RUNS, Measured, NodeRunsError, decode, encode
from deviceplugin.learning.runs import Run, owner_name, owner_of_pod


def run(owner: str, **values: Any) -> Run:
    return Run(namespace="ml", owner=owner, container="main", start=100.0, seconds=5.5, **values)


RUNS = [
    run("a", peak_mib=12.5, busy_ratio=0.95),
    run("b"),
    run("a", peak_mib=0.0, busy_ratio=0.05),
]
TEXT = encode("node-1", 200.0, [Measured(run=one, mean_ratio=0.25) for one in RUNS])


def test_what_is_written_is_read_again() -> None:
    assert decode(TEXT.encode()) == ("node-1", RUNS)
    assert decode(encode("n", 1.0, []).encode()) == ("n", [])


def test_names_stand_there_once_and_what_is_not_known_is_null() -> None:
    told = json.loads(TEXT)
    assert told["groups"] == [["ml", "a", "main"], ["ml", "b", "main"]]
    assert told["runs"][1] == [1, 100.0, 5.5, None, 0.25, None]


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"version": 2}, "version 2, 1 is known here"),
        ({"runs": [[2, 1, 1, None, None, None]]}, "a run that cannot be"),
        ({"runs": [[-1, 1, 1, None, None, None]]}, "a run that cannot be"),
        ({"runs": [[0, 1, -1, None, None, None]]}, "a run that cannot be"),
        ({"runs": [[0, 1, 1e9, None, None, None]]}, "a run that cannot be"),
        ({"runs": [[0, 1, 1, -5, None, None]]}, "a run that cannot be"),
        ({"runs": [[0, 1, 1, None, None, 1.5]]}, "a run that cannot be"),
        ({"runs": [[0, 1, 1]]}, "length"),
        ({"groups": [["ml"]]}, "length"),
        ({"groups": [["ml", "x" * 254, "main"]]}, "a name of more than 253 characters"),
        ({"runs": "many"}, "array"),
    ],
)
def test_what_no_daemon_writes_is_refused(change: dict[str, Any], meant: str) -> None:
    with pytest.raises(NodeRunsError, match=meant):
        decode(json.dumps(json.loads(TEXT) | change).encode())


@pytest.mark.parametrize(
    "content", [TEXT.encode().replace(b"ml", b"\x80"), b'{"x":' + b"[" * 200_000, b"", b"\xff"]
)
def test_bytes_that_are_no_document_are_refused(content: bytes) -> None:
    with pytest.raises(NodeRunsError):
        decode(content)


def test_of_more_than_a_node_keeps_the_latest_are_taken() -> None:
    many = encode("n", 1.0, [Measured(run=run("a"))] * (MAX_RUNS + 5))
    assert len(decode(many.encode())[1]) == MAX_RUNS


@pytest.mark.parametrize(
    ("pod", "kind", "owner", "called"),
    [
        ("web-6c5d9f8b7d-x7k2p", "ReplicaSet", "web-6c5d9f8b7d", "web"),
        ("llama-70-7d4b8c6f9-zq9wv", "ReplicaSet", "llama-70-7d4b8c6f9", "llama-70"),
        ("nightly-28912345-lq2tn", "Job", "nightly-28912345", "nightly"),
        ("train-7-x7k2p", "Job", "train-7", "train"),
        ("sweep-b9xkz-2-x7k2p", "Job", "sweep-b9xkz-2", "sweep"),
        ("train-model-x7k2p", "Job", "train-model", "train-model"),
        ("db-0", "StatefulSet", "db", "db"),
        ("exporter-x7k2p", "DaemonSet", "exporter", "exporter"),
        ("alone", "Pod", "alone", "alone"),
        ("2024", "Pod", "2024", "2024"),
    ],
)
def test_the_owner_by_a_pods_name_is_the_one_that_the_cluster_names(
    pod: str, kind: str, owner: str, called: str
) -> None:
    assert owner_of_pod(pod) == called
    assert owner_name(kind, owner) == called
