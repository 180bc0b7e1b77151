"""What is learned from: runs as nodes give them, and models of files."""

import json
import math

import msgspec

from deviceplugin.learning.model import Model, ModelError, decode, encode
from deviceplugin.learning.nodes import Measured, NodeRunsError
from deviceplugin.learning.nodes import decode as decode_runs
from deviceplugin.learning.nodes import encode as encode_runs
from deviceplugin.learning.predict import FEATURES
from deviceplugin.learning.runs import KEPT, History, Run
from deviceplugin.learning.train import Settings, train
from tests.fuzz.surface import Surface, is_line

NOW = 1e9
EVER = Settings(retention_s=1e12)


def runs_of_nodes(data: bytes) -> None:
    """The answer of a daemon: runs that can be, of which a model can be made, or one line."""
    try:
        node, runs = decode_runs(data)
    except NodeRunsError as error:
        assert is_line(str(error))
        return
    text = encode_runs(node, NOW, [Measured(run=run) for run in runs])
    again = decode_runs(text.encode())[1]
    assert len(again) == len(runs)
    assert decode_runs(encode_runs(node, NOW, [Measured(run=run) for run in again]).encode()) == (
        node,
        again,
    )
    train(runs, NOW, EVER)
    _predicts(runs, dict.fromkeys(FEATURES, 1.0), 0.0)


def model(data: bytes) -> None:
    """A model's file: one that predicts finite seconds and is written again as it is, or one
    line."""
    try:
        found = decode(data)
    except ModelError as error:
        assert is_line(str(error))
        return
    assert decode(encode(found)) == found
    _predicts(found.latest[: 2 * KEPT], found.weights, found.shift)


def _predicts(runs: list[Run], weights: dict[str, float], shift: float) -> None:
    history = History()
    for run in sorted(runs, key=lambda run: run.end)[: 2 * KEPT]:
        history.add(run)
    made = Model(
        made=NOW,
        window=(0.0, NOW),
        runs=len(runs),
        judged=None,
        weights=weights,
        shift=shift,
        latest=[],
    )
    for group, _ in [*history.groups()][:3]:
        found = made.predict(history, group, NOW)
        assert found is not None
        assert math.isfinite(found.seconds)


RUN = Run(namespace="ml", owner="train", container="main", start=1e9 - 90, seconds=60.0)
RUNS = encode_runs("n", NOW, [Measured(run=RUN, mean_ratio=0.5)] * 3).encode()
MODEL = encode(
    Model(
        made=NOW,
        window=(0.0, NOW),
        runs=1,
        judged=None,
        weights=dict.fromkeys(FEATURES, 0.5),
        shift=0.1,
        latest=[RUN],
    )
)
WORDS = (
    *(b"{", b"}", b"[", b"]", b",", b'"', b"null", b"-1", b"1e308", b"1e999", b"NaN", b"0"),
    *(b"\\ud800", b"\xff", b"\0", b"9" * 30, b"[" * 500, b"[0,1,1,1,1,1]"),
)
SURFACES = {
    "runs_of_nodes": Surface(
        target=runs_of_nodes,
        seeds=(RUNS, b"", json.dumps(msgspec.json.decode(RUNS) | {"runs": []}).encode()),
        words=WORDS,
    ),
    "model": Surface(target=model, seeds=(MODEL, b"{}"), words=WORDS),
}
