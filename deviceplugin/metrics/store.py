"""Asks a Prometheus-compatible store (Prometheus, Thanos, Mimir, VictoriaMetrics) over HTTP.

Its limits are kept: no request has more points a series than the strictest default allows, and a
time that is refused as too much is asked for in halves.
"""

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlencode, urlsplit

from msgspec import Struct

from deviceplugin.errors import ConfigError
from deviceplugin.files.text import one_line
from deviceplugin.metrics.reply import (
    Sample,
    Series,
    StoreError,
    joined,
    parse_instant,
    parse_range,
)
from deviceplugin.runtime.trust import trusting

MOST_POINTS = 10_000  # Prometheus refuses more than 11,000 points a series
MAX_ANSWER_BYTES = 64 << 20
TIMEOUT_S = 120.0  # Prometheus' own --query.timeout
RANGE, INSTANT = "/api/v1/query_range", "/api/v1/query"
_FORM = "a URL such as https://prometheus.monitoring:9090"


class Access(Struct, frozen=True, kw_only=True):
    """Where the store is and as whom it is asked. `token_file` is read at each request, since
    tokens are renewed; `tenant` is Mimir's and Cortex' X-Scope-OrgID, `flag` where the address
    was given."""

    address: str
    token_file: Path | None = None
    ca_file: Path | None = None
    tenant: str = ""
    timeout_s: float = TIMEOUT_S
    flag: str = "--store"

    def parts(self) -> SplitResult:
        """The address in parts; raises ConfigError."""
        try:
            parts = urlsplit(self.address)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid or parts.username is not None:
            reason = (
                "a password belongs into the file of --token-file" if "@" in self.address else ""
            )
            shown = self.address if not reason else "..."
            raise ConfigError(self.flag, shown, _FORM, reason=reason)
        return parts


class Store:
    """One store. Blocks while it asks."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._parts = access.parts()
        self.requests = 0

    def range(self, query: str, start: float, end: float, step_s: float) -> tuple[Series, ...]:
        """The values of a query at `start`, each step after it, and at `end` at the latest;
        raises StoreError."""
        parts = [
            part
            for first, last in spans(start, end, step_s)
            for part in self._halved(query, (first, last), step_s)
        ]
        return joined(parts)

    def instant(self, query: str) -> tuple[Sample, ...]:
        """The values of a query now; raises StoreError."""
        status, content = self._content(INSTANT, {"query": query}, query)
        return parse_instant(content, status, query)

    def _halved(
        self, query: str, span: tuple[float, float], step_s: float
    ) -> Iterator[tuple[Series, ...]]:
        try:
            yield self._ask(query, span, step_s)
        except StoreError as error:
            steps = int((span[1] - span[0]) / step_s)
            if not error.too_much or steps < 1:
                raise
            middle = span[0] + steps // 2 * step_s
            yield from self._halved(query, (span[0], middle), step_s)
            yield from self._halved(query, (middle + step_s, span[1]), step_s)

    def _ask(self, query: str, span: tuple[float, float], step_s: float) -> tuple[Series, ...]:
        asked = {"query": query, "start": f"{span[0]:.3f}", "end": f"{span[1]:.3f}"}
        status, content = self._content(RANGE, asked | {"step": f"{step_s:g}"}, query)
        return parse_range(content, status)

    def _content(self, path: str, asked: Mapping[str, str], query: str) -> tuple[int, bytes]:
        path = f"{self._parts.path.rstrip('/')}{path}?{urlencode(asked)}"
        self.requests += 1
        try:
            status, content = self._get(path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            text = one_line(str(error) or type(error).__name__)
            raise StoreError(f"{self._access.address}: {text}") from error
        if len(content) > MAX_ANSWER_BYTES:
            # It would be too much in one piece; halves of it are not.
            raise StoreError(f"{query}: the answer has more than {MAX_ANSWER_BYTES} bytes", 422)
        return status, content

    def _get(self, path: str) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", **self._headers()}
        with contextlib.closing(self._connection()) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER_BYTES + 1)

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._parts.hostname or "", self._parts.port, self._access.timeout_s
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=timeout)
        cafile = self._access.ca_file
        context = trusting(cafile=str(cafile) if cafile else None)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)

    def _headers(self) -> Mapping[str, str]:
        access, found = self._access, {}
        if access.token_file is not None:
            found["Authorization"] = f"Bearer {access.token_file.read_text().strip()}"
        if access.tenant:
            found["X-Scope-OrgID"] = access.tenant
        return found


def spans(start: float, end: float, step_s: float) -> Iterator[tuple[float, float]]:
    """The time in pieces of at most MOST_POINTS steps; the pieces have no moment in common."""
    while start <= end:
        last = min(end, start + (MOST_POINTS - 1) * step_s)
        yield start, last
        start = last + step_s
