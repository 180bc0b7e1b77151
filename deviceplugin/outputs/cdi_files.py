"""CDI files in the directory that container runtimes read."""

from collections.abc import Iterable
from pathlib import Path

import structlog

from deviceplugin.core.cdi import document, file_name
from deviceplugin.model import CdiSpec
from deviceplugin.outputs.atomic import write_atomically

log = structlog.get_logger()


def write_cdi_files(directory: Path, specs: Iterable[CdiSpec]) -> None:
    """Write the file of each spec, remove it where the spec has no devices; blocking.

    Raises OSError where the directory cannot be written; files written before stay.
    """
    for spec in specs:
        path = directory / file_name(spec.kind)
        if spec.devices:
            if write_atomically(path, document(spec)):
                log.info("cdi_file_written", path=str(path), devices=len(spec.devices))
        elif path.exists():
            path.unlink(missing_ok=True)
            log.info("cdi_file_removed", path=str(path))
