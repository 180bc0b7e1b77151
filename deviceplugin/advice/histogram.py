"""The histogram by which the Vertical Pod Autoscaler sizes memory; pure.

Its constants are those of kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender: buckets
that grow by 5 % from 10 MB to 1 TB, one peak a day, and a weight that halves every 24 hours.
"""

import math

FIRST_BYTES = 1e7
LAST_BYTES = 1e12
RATIO = 1.05
HALF_LIFE_DAYS = 1.0
_GROWTH = RATIO - 1.0
BUCKETS = int(math.log(LAST_BYTES * _GROWTH / FIRST_BYTES + 1) / math.log(RATIO)) + 2


def bucket_of(size: float) -> int:
    """The bucket of a size in bytes."""
    if size < FIRST_BYTES:
        return 0
    found = int(math.log(size * _GROWTH / FIRST_BYTES + 1) / math.log(RATIO))
    return min(found, BUCKETS - 1)


def start_of(bucket: int) -> float:
    """Where a bucket begins, in bytes: the sum of those below it."""
    return FIRST_BYTES * (RATIO**bucket - 1) / _GROWTH if bucket else 0.0


class Histogram:
    """Peaks by day; newer ones weigh more."""

    def __init__(self) -> None:
        self._weights = [0.0] * BUCKETS

    def add(self, peak_bytes: float, day: float) -> None:
        """One day's peak; `day` counts from any day on."""
        self._weights[bucket_of(peak_bytes)] += 2.0 ** (day / HALF_LIFE_DAYS)

    def percentile(self, part: float) -> float:
        """The end of the bucket in which that part of the weight is reached, in bytes; 0 of
        nothing."""
        threshold, reached = part * math.fsum(self._weights), 0.0
        for bucket, weight in enumerate(self._weights):
            reached += weight
            if weight and reached >= threshold * (1 - 1e-12):
                return start_of(min(bucket + 1, BUCKETS - 1))
        return 0.0
