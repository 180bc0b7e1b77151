"""The plugin's readiness probe, with a kubelet and without."""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.verdict import Finding, judged, skipped

CHANGES_S = 5.0
PROBE_S = 2.0


async def probe_readiness(session: Session) -> AsyncIterator[Finding]:
    """Findings about line 67."""
    url = session.settings.readiness_url
    if url is None:
        yield skipped(67, "no probe is known: give --readiness-url")
        return
    limit_s = min(session.settings.limit(CHANGES_S), session.settings.timeout_s)
    problems = []
    if not await _becomes(url, limit_s, ready=True):
        problems.append(f"{url} is not ready although every resource is listed")
    await session.stub.stop()
    if not await _becomes(url, limit_s, ready=False):
        problems.append(f"{url} stays ready without a kubelet")
    await session.restart_kubelet()
    await session.wait_all("after the kubelet was away")
    yield judged(67, problems, f"{url} is ready with the kubelet and not without")


async def _becomes(url: str, limit_s: float, *, ready: bool) -> bool:
    """Whether the probe says so in time."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if await asyncio.to_thread(_is_ready, url) is ready:
            return True
        await asyncio.sleep(0.1)
    return False


def _is_ready(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PROBE_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
