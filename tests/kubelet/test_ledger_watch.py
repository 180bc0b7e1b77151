"""When the kubelet may be asked who holds what."""

import asyncio
from pathlib import Path

import pytest

from deviceplugin.kubelet.ledger_watch import LedgerWatch, settling_s
from deviceplugin.resources.ledger import SETTLED_S, Ledger
from deviceplugin.testing.kubelet import KubeletStub


@pytest.mark.parametrize(
    ("busy", "quiet_s", "waited_s", "may_ask"),
    [
        (False, 60.0, 0.0, True),
        (True, 60.0, 0.0, False),
        (True, 60.0, 60.0, False),
        (False, 0.5, 0.0, False),
        (False, 1.0, 0.0, True),
        (False, 0.5, 3.0, True),
        (False, 0.05, 3.0, False),
    ],
    ids=[
        "quiet",
        "while an Allocate runs",
        "however long one waits",
        "just after one",
        "when that has settled",
        "in a small break where there is no large one",
        "in no break",
    ],
)
def test_the_kubelet_is_asked_in_a_quiet_moment(
    busy: bool, quiet_s: float, waited_s: float, may_ask: bool
) -> None:
    assert (settling_s(busy, quiet_s, waited_s) == 0) is may_ask


async def test_the_kubelet_is_asked_when_it_has_done_with_an_allocate(short_dir: Path) -> None:
    now_s = asyncio.get_running_loop().time
    asked_s: asyncio.Queue[float] = asyncio.Queue()
    async with KubeletStub(short_dir) as stub:
        watch = LedgerWatch(
            Ledger(now_s),
            stub.pod_resources_socket,
            lambda: asked_s.put_nowait(now_s()),
            lambda: False,
        )
        with watch.allocating():
            while asked_s.empty():  # the stub may not answer in time
                await watch.ask()  # as an Allocate does that has to know
            task = asyncio.create_task(watch.watch())
            await asyncio.sleep(0)  # it waits for the end
            ended_s = now_s()
        first_s, second_s = await asked_s.get(), await asked_s.get()
        task.cancel()
    assert first_s <= ended_s
    assert second_s >= ended_s + SETTLED_S
