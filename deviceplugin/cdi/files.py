"""CDI files in the directory that container runtimes read."""

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from deviceplugin.cdi.spec import document, file_name, precedes, usable
from deviceplugin.errors import FilesError
from deviceplugin.model import CdiSpec
from deviceplugin.runtime.files import trusted_directory, write_atomically

log = structlog.get_logger()


class CdiFiles:
    """The files below `directory`; a kind is one vendor's, the earliest in `order` that writes it.

    Called on the vendors' threads, hence the lock: who owns a kind and whose content its file has
    must not come apart.
    """

    def __init__(self, directory: Path, order: Sequence[str]) -> None:
        self._directory, self._order = directory, order
        self._owners: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()

    def write(self, vendor: str, specs: Iterable[CdiSpec]) -> None:
        """Write a vendor's files; raises FilesError where it cannot, or may not."""
        specs = tuple(specs)
        with self._lock:
            for spec in specs:
                self._own(vendor, spec.kind)
            try:
                write_cdi_files(self._directory, specs)
            except OSError as error:
                reason = f"{error.filename or self._directory}: {error.strerror}"
                if reason != self._problems.get(vendor):
                    log.warning("cdi_files_not_written", vendor=vendor, reason=reason)
                self._problems[vendor] = reason
                raise FilesError(reason) from error
            self._problems.pop(vendor, None)

    def _own(self, vendor: str, kind: str) -> None:
        owner = self._owners.setdefault(kind, vendor)
        if owner == vendor:
            return
        if precedes(vendor, owner, self._order):
            self._owners[kind] = vendor
            self._tell(owner, vendor, kind)
            return
        self._tell(vendor, owner, kind)
        raise FilesError(f"the CDI kind {kind} is that of vendor {owner}")

    def _tell(self, refused: str, owner: str, kind: str) -> None:
        """Once: it may come again with every discovery."""
        if (refused, kind) not in self._told:
            self._told.add((refused, kind))
            reason = f"the CDI kind {kind} is that of vendor {owner}"
            about = {"vendor": refused, "device": None, "reason": reason}
            log.error("vendor_conflict", was="claim_refused", **about)


def write_cdi_files(directory: Path, specs: Iterable[CdiSpec]) -> None:
    """Write the file of each spec, remove it where no device of the spec is usable; blocking.

    Raises OSError where the directory cannot be written, or others can; files written before stay.
    """
    specs = tuple(specs)
    if any(spec.devices for spec in specs):
        trusted_directory(directory)
    for spec in map(usable, specs):
        path = directory / file_name(spec.kind)
        if spec.devices:
            if write_atomically(path, document(spec)):
                log.info("cdi_file_written", path=str(path), devices=len(spec.devices))
        elif os.path.lexists(path):
            path.unlink(missing_ok=True)
            log.info("cdi_file_removed", path=str(path))
