"""What containers get, from vendors that answer, change their mind, fail and hang."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.discovery import edits as module
from deviceplugin.discovery.edits import EditsCache
from deviceplugin.errors import AllocationError, CallTimeoutError, Refusal, VendorError
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Device, DeviceID, DeviceNode, Discovery, Share
from deviceplugin.resources.grants import Granted
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import Grant

A, B = (Device(id=DeviceID(name), vendor="example", nodes=("/dev/x",)) for name in "ab")
NOTHING = Granted()


class Vendor:
    name = "example"

    def __init__(self) -> None:
        self.asked: list[Sequence[Device]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def discover(self) -> Discovery:
        return Discovery()

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        self.asked.append(devices)
        self.gate.wait()
        if self.error:
            raise self.error
        nodes = {path for device in devices for path in device.nodes}
        return ContainerEdits(
            env={"IDS": ",".join(device.id for device in devices)},
            device_nodes=tuple(DeviceNode(path=p, host_path=p) for p in nodes),
        )


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
async def answers(tmp_path: Path, vendor: Vendor) -> EditsCache:
    write_tree(tmp_path, "/dev/x c 1:1")
    return EditsCache(Host(tmp_path), {"example": vendor})


async def test_a_vendor_is_asked_once_for_a_device_that_does_not_change(
    answers: EditsCache, vendor: Vendor
) -> None:
    first = await answers.edits([A], NOTHING)
    assert await answers.edits([A], NOTHING) == first
    assert len(vendor.asked) == 1
    await answers.edits([replace(A, product="another")], NOTHING)
    assert len(vendor.asked) == 2


async def test_what_is_prepared_is_not_asked_for_again(answers: EditsCache, vendor: Vendor) -> None:
    foreign = replace(A, id=DeviceID("z"), vendor="gone")
    await answers.prepare([A, foreign, B])
    assert [[device.id for device in asked] for asked in vendor.asked] == [["a"], ["b"]]
    prepared = await answers.edits([A], NOTHING)
    assert await answers.edits([replace(A)], NOTHING) is prepared
    assert len(vendor.asked) == 2


async def test_a_vendor_that_fails_at_preparing_is_asked_again(
    answers: EditsCache, vendor: Vendor
) -> None:
    vendor.error = ValueError("odd")
    await answers.prepare([A])
    vendor.error = None
    assert (await answers.edits([A], NOTHING)).env["IDS"] == "a"


async def test_several_devices_are_asked_for_together_until_one_changes(
    answers: EditsCache, vendor: Vendor
) -> None:
    for _ in range(2):
        assert (await answers.edits([A, B], NOTHING)).env["IDS"] == "a,b"
    assert vendor.asked == [[A, B]]
    await answers.edits([A, replace(B, numa_node=1)], NOTHING)
    assert len(vendor.asked) == 2


async def test_of_several_devices_together_few_answers_are_kept(
    answers: EditsCache, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_TOGETHER", 1)
    for devices in ([A, B], [B, A], [A, B]):
        await answers.edits(devices, NOTHING)
    assert len(vendor.asked) == 3


async def test_a_node_that_went_away_is_missed_although_the_answer_is_kept(
    answers: EditsCache, tmp_path: Path
) -> None:
    await answers.edits([A], NOTHING)
    (tmp_path / "dev/x").unlink()
    with pytest.raises(AllocationError, match="/dev/x does not exist"):
        await answers.edits([A], NOTHING)


SHARES = Granted(
    edits=ContainerEdits(env={"MEMORY": "1"}),
    grants=(Grant(device=A, share=Share(count=8, unit_bytes=1 << 30), count=3),),
)


async def test_shares_are_added_to_what_the_vendor_says(answers: EditsCache) -> None:
    edits = await answers.edits([A], SHARES)
    assert dict(edits.env) == {"IDS": "a", "MEMORY": "1"}


class Limiting(Vendor):
    """A vendor that turns a share into a template of its own, as `ASCEND_VNPU_SPECS` does."""

    path = "/dev/x"

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        if self.error:
            raise self.error
        (grant,) = grants
        node = DeviceNode(path="/dev/limit", host_path=self.path)
        return ContainerEdits(env={"SPECS": f"vir{grant.count:02}"}, device_nodes=(node,))


async def test_a_vendor_that_knows_limits_is_told_the_share(tmp_path: Path) -> None:
    write_tree(tmp_path, "/dev/x c 1:1")
    answers = EditsCache(Host(tmp_path), {"example": Limiting()})
    edits = await answers.edits([A], SHARES)
    assert dict(edits.env) == {"IDS": "a", "MEMORY": "1", "SPECS": "vir03"}
    assert [node.path for node in edits.device_nodes] == ["/dev/x", "/dev/limit"]
    assert "SPECS" not in (await answers.edits([A], NOTHING)).env


async def test_shares_alike_are_asked_for_once_and_other_shares_again(tmp_path: Path) -> None:
    write_tree(tmp_path, "/dev/x c 1:1")
    answers = EditsCache(Host(tmp_path), {"example": Limiting()})
    first = await answers.edits([A], SHARES)
    assert await answers.edits([A], SHARES) is first
    (grant,) = SHARES.grants
    more = replace(SHARES, grants=(replace(grant, count=4),))
    assert (await answers.edits([A], more)).env["SPECS"] == "vir04"
    other = replace(SHARES, edits=ContainerEdits(env={"MEMORY": "2"}))
    assert (await answers.edits([A], other)).env["MEMORY"] == "2"
    moved = replace(A, numa_node=1)
    assert await answers.edits([moved], SHARES) is not first


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (AllocationError(Refusal.LIMIT, "no template of 3 GiB"), AllocationError),
        (KeyError("bug"), VendorError),
    ],
    ids=["refused", "a bug"],
)
async def test_limits_that_a_vendor_cannot_set_refuse_the_allocation(
    tmp_path: Path, raised: Exception, expected: type[Exception]
) -> None:
    write_tree(tmp_path, "/dev/x c 1:1")
    vendor = Limiting()
    answers = EditsCache(Host(tmp_path), {"example": vendor})
    await answers.prepare([A])
    vendor.error = raised
    with pytest.raises(expected):
        await answers.edits([A], SHARES)


async def test_a_path_of_limits_that_is_no_host_path_is_the_vendors_fault(tmp_path: Path) -> None:
    write_tree(tmp_path, "/dev/x c 1:1")
    vendor = Limiting()
    vendor.path = "dev/x"
    with pytest.raises(VendorError, match="not a host path"):
        await EditsCache(Host(tmp_path), {"example": vendor}).edits([A], SHARES)


async def test_a_failure_is_not_kept(answers: EditsCache, vendor: Vendor) -> None:
    vendor.error = ValueError("odd")
    with pytest.raises(VendorError, match="odd"):
        await answers.edits([A], NOTHING)
    vendor.error = None
    assert (await answers.edits([A], NOTHING)).env["IDS"] == "a"


async def test_a_vendor_that_hangs_is_given_up_at_the_deadline(
    answers: EditsCache, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALLOCATE_S", 0.05)
    vendor.gate.clear()
    with pytest.raises(CallTimeoutError):
        await answers.edits([A], NOTHING)
    vendor.gate.set()


async def test_what_is_kept_does_not_grow(
    answers: EditsCache, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    for device in (A, B, A):
        await answers.edits([device], NOTHING)
    assert len(vendor.asked) == 3
