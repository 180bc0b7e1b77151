"""An image of one static program, made here: a test machine reaches no registry."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from tests.fakes.compiled import compiler

IMAGE = "docker.io/library/deviceplugin-probe:1"
_SOURCE = Path(__file__).parent / "probe.c"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(path: Path) -> None:
    """A tar archive that `ctr images import` takes; raises CalledProcessError if cc fails."""
    program = path.with_suffix(".probe")
    command = [*compiler(), "-static", "-Os", "-Wall", "-Wextra", "-o", str(program), str(_SOURCE)]
    subprocess.run(command, check=True)
    layer = _tar({"probe": program.read_bytes()})
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": ["/probe"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "config.json": config,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    path.write_bytes(_tar(files))


def _tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()
