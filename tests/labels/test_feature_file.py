"""The feature file: what NFD reads, and never more than it reads."""

from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.labels.feature_file import MAX_BYTES, feature_file


def test_labels_stand_behind_their_expiry_time() -> None:
    text, left = feature_file({"a.example/y": "2", "a.example/x": "1"}, 1795332967.9)
    assert left == ()
    assert text.splitlines()[1:] == [
        "# +expiry-time=2026-11-22T07:36:07Z",
        "a.example/x=1",
        "a.example/y=2",
    ]


def test_a_key_that_would_get_a_prefix_is_left_out() -> None:
    assert feature_file({"gpu.count": "1"}, 0)[1] == ("gpu.count",)


@given(st.integers(0, 3000), st.integers(1, 63))
def test_a_file_is_never_so_large_that_it_is_ignored(count: int, size: int) -> None:
    labels = {f"a.example/k{n}": "v" * size for n in range(count)}
    text, left = feature_file(labels, 0)
    assert len(text.encode()) < MAX_BYTES
    assert len(left) + text.count("\n") - 2 == count
