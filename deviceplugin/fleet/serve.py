"""Serves a fleet's report over HTTP, made anew from time to time."""

import json
import signal
import threading
from collections.abc import Callable, Mapping

from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.fleet.figures import report_metrics
from deviceplugin.fleet.page import Document, fleet_page
from deviceplugin.metrics.door import PLAIN
from deviceplugin.metrics.http import HttpServer, application
from deviceplugin.metrics.registry import CONTENT_TYPE
from deviceplugin.runtime.part import Page, Response

HTML, JSON = "text/html; charset=utf-8", "application/json"


class Served:
    """The last report that could be made, and why there is no newer one."""

    def __init__(self, make: Callable[[], Document]) -> None:
        self._make = make
        self._report: Document | None = None
        self._problem = "the first report is being made"

    def renew(self) -> None:
        """Make a report; raises ConfigError, which no other time will mend."""
        try:
            self._report, self._problem = self._make(), ""
        except ConfigError:
            raise
        except DevicePluginError as error:
            self._problem = str(error)

    def routes(self) -> Mapping[str, Page]:
        """The page, the report and the probe; the report's reader is told of a store that is
        away by /readyz, which stays ready while there is a report."""
        return {
            "/": self._page,
            "/report.json": self._json,
            "/metrics": self._metrics,
            "/readyz": self._ready,
        }

    def _page(self) -> Response:
        if self._report is None:
            return self._absent()
        return Response("200 OK", HTML, fleet_page(self._report, problem=self._problem))

    def _json(self) -> Response:
        if self._report is None:
            return self._absent()
        return Response("200 OK", JSON, json.dumps(self._report) + "\n")

    def _metrics(self) -> Response:
        if self._report is None:
            return self._absent()
        return Response("200 OK", CONTENT_TYPE, report_metrics(self._report))

    def _ready(self) -> Response:
        if self._report is None:
            return self._absent()
        return Response("200 OK", PLAIN, f"ok\n{self._problem}\n" if self._problem else "ok\n")

    def _absent(self) -> Response:
        return Response("503 Service Unavailable", PLAIN, f"{self._problem}\n")


def serve_reports(served: Served, address: tuple[str, int], every_s: float) -> None:
    """Serve until SIGTERM or SIGINT; raises ConfigError for an address that is taken."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server = HttpServer(application(served.routes()), address)
    except OSError as error:
        shown = f"{address[0]}:{address[1]}"
        raise ConfigError("--address", shown, "", reason=str(error)) from error
    try:
        served.renew()
        while not ended.wait(every_s):
            served.renew()
    finally:
        server.close()
