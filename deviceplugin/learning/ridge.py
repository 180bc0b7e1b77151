"""Linear regression that shrinks its weights (ridge), by Gaussian elimination; pure."""

import math
from collections.abc import Sequence

Row = tuple[Sequence[float], float]
_SAME = 1e-9  # of spread: a feature that is the same everywhere


def ridge(rows: Sequence[Row], shrink: float) -> list[float]:
    """Weights of the features, of which the first is 1 everywhere; `shrink` is in rows, and counts
    for all features alike, whatever their units. Of no rows all are 0."""
    if not rows:
        return []
    means, spreads = _scales([features for features, _ in rows])
    scaled = [
        [1.0, *((x - m) / s for x, m, s in zip(f[1:], means, spreads, strict=True))]
        for f, _ in rows
    ]
    weights = _solved(*_normal(scaled, [value for _, value in rows], shrink))
    found = [w / s for w, s in zip(weights[1:], spreads, strict=True)]
    return [weights[0] - math.fsum(w * m for w, m in zip(found, means, strict=True)), *found]


def _scales(rows: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Mean and spread of each feature but the first."""
    means, spreads = [], []
    for column in list(zip(*rows, strict=True))[1:]:
        mean = math.fsum(column) / len(column)
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in column) / len(column))
        means.append(mean)
        spreads.append(spread if spread > _SAME else 1.0)
    return means, spreads


def _normal(
    rows: Sequence[Sequence[float]], values: Sequence[float], shrink: float
) -> tuple[list[list[float]], list[float]]:
    """The normal equations; the first weight is not shrunk."""
    columns = list(zip(*rows, strict=True))
    size = len(columns)
    matrix = [[0.0] * size for _ in columns]
    for i, one in enumerate(columns):
        for j in range(i, size):
            matrix[i][j] = matrix[j][i] = sum(map(float.__mul__, one, columns[j]))
        matrix[i][i] += shrink if i else 0.0
    return matrix, [sum(map(float.__mul__, one, values)) for one in columns]


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Of a matrix that is positive definite, so no pivot is looked for."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1, size):
            factor = matrix[j][i] / matrix[i][i]
            for k in range(i, size):
                matrix[j][k] -= factor * matrix[i][k]
            right[j] -= factor * right[i]
    found = [0.0] * size
    for i in reversed(range(size)):
        known = math.fsum(matrix[i][k] * found[k] for k in range(i + 1, size))
        found[i] = (right[i] - known) / matrix[i][i]
    return found
