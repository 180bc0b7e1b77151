"""Samples as tables that a test can compare."""

from collections.abc import Mapping
from pathlib import Path

from deviceplugin.model import DeviceID
from deviceplugin.vendor import Sample


def values_of(sample: Sample, device: DeviceID) -> dict[str, float]:
    """The values of one device, by metric and labels: `clock_hertz clock=sm`."""
    return {
        " ".join([one.metric, *(f"{name}={text}" for name, text in one.labels)]): one.value
        for one in sample.measured
        if one.device == device
    }


def write_files(root: Path, files: Mapping[str, object]) -> None:
    """Files by their host paths."""
    for path, text in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
