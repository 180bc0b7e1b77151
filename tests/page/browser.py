"""Headless Chromium by its debugging pipe: JSON messages, each ended by a zero byte; no driver."""

import base64
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.alerts.debian import program
from tests.rig import END_S

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking"),
    "--remote-debugging-pipe",
)


class Browser:
    """One tab."""

    def __init__(self, writes: int, reads: int) -> None:
        self._writes, self._reads = writes, reads
        self._number, self._rest = 0, b""
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")

    def call(self, method: str, **params: Any) -> Any:  # JSON
        """The result of a command; events meanwhile are passed over."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> Any:  # JSON
        while b"\0" not in self._rest:
            part = os.read(self._reads, 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:  # JSON
        """The value of an expression, a promise's once it is kept."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, url: str, *, scripts: bool = True) -> None:
        """The page, once it is live; without scripts once it is there."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=url)
        live = 'document.documentElement.dataset.live === "yes"'
        there = 'document.readyState === "complete" && location.href !== "about:blank"'
        done = f"{there} && {live}" if scripts else there
        self.run(f"""new Promise((resolve) => {{
            const look = () => ({done}) ? resolve(true) : setTimeout(look, 20);
            look(); }})""") if scripts else self._wait_loaded(done)

    def _wait_loaded(self, done: str) -> None:
        while not self.run(done):  # a promise would need scripts
            pass

    def look(self, width: int, height: int, scheme: str) -> None:
        """The size of the window, and light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=width < 600, **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def key(self, name: str) -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13}[name]
        text = {"text": "\r"} if name == "Enter" else {}
        common = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def shot(self, path: Path) -> None:
        """A picture of the whole window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser that ends with the test."""
    chromium = program("chromium", "chromium")
    to_child, writes = os.pipe()
    reads, from_child = os.pipe()
    # It reads at descriptor 3 and writes at 4, whichever they are here.
    script = f'exec "$0" "$@" 3<&{to_child} 4>&{from_child}'
    command = ["bash", "-c", script, chromium, *FLAGS, f"--user-data-dir={directory}/profile"]
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(to_child, from_child), stdout=log, stderr=log)
    os.close(to_child)
    os.close(from_child)
    try:
        yield Browser(writes, reads)
    finally:
        os.close(writes)
        os.close(reads)
        process.terminate()
        process.wait(END_S)
