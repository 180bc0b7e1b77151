"""What a prepared claim gives its containers: its CDI file, and what the kubelet is told."""

import asyncio
from collections.abc import Iterator

from deviceplugin.dra.claims import ClaimError
from deviceplugin.dra.files import ClaimFiles, DeviceEdits
from deviceplugin.dra.holders import check_variables
from deviceplugin.dra.journal import Entry, Prepared
from deviceplugin.dra.limits import Counters
from deviceplugin.dra.shares import Shares, share_edits
from deviceplugin.dra.surroundings import Node, PreparedDevice
from deviceplugin.errors import DevicePluginError
from deviceplugin.model import Device


class Written:
    """The CDI files of one driver's claims."""

    def __init__(self, node: Node, files: ClaimFiles) -> None:
        self._node, self._files = node, files

    async def write(self, entry: Entry) -> None:
        """The file of a claim; raises ClaimError."""
        edits = {one.key: await self._edits(entry, one) for one in entry.devices}
        check_variables(entry.ref, edits.values())
        try:
            own = await self._node.limited(entry.ref.uid, share_edits(self.parts(entry)))
            await asyncio.to_thread(self._files.write, entry.ref.uid, edits, own)
        except OSError as error:
            text = f"claim {entry.ref.text}: {error.filename}: {error.strerror}"
            raise ClaimError(text) from error

    def parts(self, entry: Entry) -> Iterator[tuple[Device, Shares, Counters]]:
        """The parts of devices that a claim shares with others."""
        devices = self._node.devices()
        for one in entry.devices:
            shares = self._node.shared(devices[one.device]) if one.device in devices else None
            if one.share_id is not None and shares is not None:
                yield devices[one.device], shares, one.consumed

    async def _edits(self, entry: Entry, one: Prepared) -> DeviceEdits:
        device = self._node.devices().get(one.device)
        if device is None:
            raise ClaimError(f"claim {entry.ref.text}: device {one.device} is gone")
        try:
            own, common = await self._node.edits(device)
        except DevicePluginError as error:
            raise ClaimError(f"claim {entry.ref.text}: {error}") from error
        if not own.device_nodes and not own.mounts:
            text = f"device {one.device} has no device nodes to give"
            action = f"set {device.vendor}.device_list_strategy to cdi-cri"
            raise ClaimError(f"claim {entry.ref.text}: {text}: {action}")
        return DeviceEdits(own, common)

    def answer(self, entry: Entry) -> tuple[PreparedDevice, ...]:
        """Its devices as the kubelet is told of them."""
        return tuple(
            PreparedDevice(
                request=one.request,
                pool=one.pool,
                name=one.name,
                cdi_id=self._files.cdi_id(entry.ref.uid, one.key),
                share_id=one.share_id,
            )
            for one in entry.devices
        )
