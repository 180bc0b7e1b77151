"""`deviceplugin preflight`: the GPUs of this container, before its job starts."""

import asyncio
import os
import platform
import time
from pathlib import Path

import click

from deviceplugin.cli.output import rendered
from deviceplugin.diagnose.active.driver import find_driver
from deviceplugin.diagnose.active.preflight import line_of, preflight
from deviceplugin.diagnose.model import Verdict
from deviceplugin.diagnose.report import diagnosis_text, document_of, junit_text, wrong_checks
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.host import Host

LEAST_S, MOST_S = 8, 3600
_NO_DRIVER = (
    "there is no CUDA driver (libcuda.so.1) in this container: it needs an NVIDIA GPU of its own,"
    " with the capability compute"
)
_MOST_BYTES = 4096  # that the kubelet shows


def run_preflight(seconds: int, form: str, message: str) -> int:
    """Print what was found, and leave its line where the kubelet shows it; 1 where a GPU is not
    fit, or none could be tested."""
    if not LEAST_S <= seconds <= MOST_S:
        raise ConfigError("--seconds", seconds, f"from {LEAST_S} to {MOST_S}")
    try:
        results = asyncio.run(preflight(_driver(), float(seconds)))
    except DevicePluginError as error:
        line = f"preflight: {error}"
        _leave(message, line)
        raise DevicePluginError(line) from error
    line = line_of(results)
    _leave(message, line)
    document = document_of(platform.node(), time.time(), results)
    text = (
        junit_text(document)
        if form == "junit"
        else rendered(document, form, diagnosis_text, wrong_checks)
    )
    click.echo(text, nl=False)
    if form == "table":
        click.echo(line)
    return int(document["verdict"] == Verdict.FAIL)


def _driver() -> str:
    library = find_driver(Host())
    if library is None:
        raise DevicePluginError(_NO_DRIVER)
    return library


def _leave(message: str, line: str) -> None:
    """In the file that the kubelet has made for it; nobody misses it elsewhere."""
    if not Path(message).is_file():
        return
    try:
        with open(message, "r+b", opener=_opened) as file:
            file.write(line.encode()[:_MOST_BYTES])
    except OSError as error:
        click.echo(f"{message}: {error.strerror}", err=True)


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
