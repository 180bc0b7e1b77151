"""Drivers, agents, plug-ins and files say anything at any length: what becomes of it is one bounded
line that can be printed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.discovery.admission import checked
from deviceplugin.errors import (
    MAX_TEXT,
    AllocationError,
    ConfigError,
    DevicePluginError,
    LibraryError,
    Refusal,
    UnavailableError,
)
from deviceplugin.files.text import MAX_LINE, one_line
from deviceplugin.health.ownership import Ownership
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubernetes.api import ApiError
from deviceplugin.model import Device, DeviceID, Discovery, Fault, ResourceName
from deviceplugin.provision.values import Waiting
from deviceplugin.runtime.guard import guarded
from deviceplugin.runtime.logs import MAX_FIELD, configure_logs
from deviceplugin.vendors.nvidia.child.wire import Failed
from deviceplugin.vendors.nvidia.library import open_nvml
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree

NASTY = "line\nline\x1b]0;title\x07 \u202eltr\u2066 \x00\r\n\x9b31m"
WORDS = [
    NASTY,
    "\udc80 no UTF-8",
    NASTY * 100,
    "x" * 10_000_000,
    " " * 1_000_000 + "end",
    "\n" * 100_000,
]
ids = ["escapes", "bytes", "many", "long", "spaces", "lines"]


def all_errors(kind: type[DevicePluginError] = DevicePluginError) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        if one.__module__.startswith("deviceplugin."):
            yield one
            yield from all_errors(one)


def made(kind: type[Any], text: str) -> DevicePluginError:
    if issubclass(kind, ConfigError):
        error: DevicePluginError = kind(text, text, text)
    elif issubclass(kind, LibraryError):
        error = kind(text, 777, text)
    elif issubclass(kind, AllocationError):
        error = kind(Refusal.FAILED, text)
    elif issubclass(kind, ApiError):
        error = kind(text, 500)
    elif issubclass(kind, Waiting):
        error = kind((text,), text)
    else:
        error = kind(text)
    return error


@pytest.mark.parametrize("text", WORDS, ids=ids)
def test_every_exception_of_ours_is_one_bounded_line(text: str) -> None:
    kinds: tuple[type[Any], ...] = (DevicePluginError, *all_errors())
    for kind in kinds:
        shown = str(made(kind, text))
        assert shown.isprintable(), kind
        assert len(shown) <= 2 * MAX_TEXT, kind


@pytest.mark.parametrize("text", WORDS, ids=ids)
def test_an_error_that_comes_from_the_childs_process_is_one_too(text: str) -> None:
    for failed in (Failed(text, text, 777), Failed(text), Failed(text, unavailable=True)):
        shown = str(failed.error())
        assert shown.isprintable()
        assert len(shown) <= MAX_TEXT


@pytest.mark.parametrize("text", WORDS, ids=ids)
def test_a_library_s_own_words_are_bounded_more_tightly(text: str) -> None:
    error = LibraryError("nvmlInit", 777, text)
    assert len(error.text) <= MAX_LINE
    assert error.text.isprintable()


def test_the_words_of_a_driver_that_does_not_start_are_one_line(tmp_path: Path) -> None:
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=(a100_40gb(0),)))
    write_host_tree(tmp_path, double.scenario)
    double.fail("nvmlInit*", 777)
    double.lie("nvmlErrorString", text=b"bad\n\x1b]0;title\x07\xe2\x80\xaeltr")
    with pytest.raises(UnavailableError) as caught:
        open_nvml(Host(tmp_path), "/")
    assert "bad \ufffd]0;title\ufffd\ufffdltr (code 777)" in str(caught.value)


@pytest.mark.parametrize("text", WORDS, ids=ids)
def test_faults_products_and_versions_are_shown_as_lines(text: str) -> None:
    device = Device(id=DeviceID("a"), vendor="v", product=text, resource=ResourceName("v.com/gpu"))
    fault = Fault(device=DeviceID("a"), source="v.x", code="c", reason=text, action=text)
    found, refused = checked(
        "v", Discovery(devices=(device,), faults=(fault,), driver_version=text)
    )
    assert refused == ()
    (taken,), (kept,) = found.devices, found.faults
    for word in (taken.product, kept.reason, kept.action, found.driver_version):
        assert word is not None
        assert word.isprintable()
        assert len(word) <= MAX_TEXT


@pytest.mark.parametrize("text", WORDS, ids=ids)
async def test_what_a_watch_reports_is_shown_as_lines(text: str) -> None:
    store = InventoryStore(lambda: 0.0)
    device = Device(id=DeviceID("a"), vendor="v")
    fault = Fault(device=DeviceID("a"), source="v.x", code="c", reason=text, action="")
    (kept,) = Ownership(store).own("v", (fault,), (device,))
    assert kept.reason == one_line(text, MAX_TEXT)


@pytest.mark.parametrize("name", ["../../../etc/ld.so.preload", 'a/b"=$', "-rf", "a;b", "."])
def test_an_id_that_is_a_path_or_no_cdi_name_costs_its_device_alone(name: str) -> None:
    devices = tuple(
        Device(id=DeviceID(one), vendor="v", resource=ResourceName("v.com/gpu"))
        for one in ("good", name)
    )
    found, (refused,) = checked("v", Discovery(devices=devices))
    assert [device.id for device in found.devices] == ["good"]
    assert "the id cannot be used" in refused.reason


def noisy() -> None:
    raise ValueError(NASTY + "x" * 10_000_000)


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_log_line_is_longer_than_its_limit(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("info", form)
    try:
        guarded("plugin", noisy, lambda: None)()
    finally:
        configure_logs("critical", "console")
    written = capsys.readouterr().err
    assert "\x1b" not in written
    assert len(written) < 40 * MAX_FIELD
    if form == "json":
        (line,) = written.splitlines()
        assert len(json.loads(line)["error"]) <= MAX_FIELD + 3
