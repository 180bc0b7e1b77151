"""Partitions that are made when a claim asks and destroyed when it is given back."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.dra.claims import ClaimError
from deviceplugin.model import AdvertisedID
from deviceplugin.provision.protocol import Answer
from deviceplugin.provision.section import Layout, Selector
from deviceplugin.testing.apiserver import ApiServer
from tests.provision.claiming import GPU, Cards, Killed, Life

ON_DEMAND = Layout(on_demand=True)
SMALL, LARGE = "gpu-0-mig-1g18gb-19-6", "gpu-0-mig-4g71gb-5-0"


@pytest.fixture
def cards() -> Cards:
    return Cards("H200", "H200")


@pytest.fixture
def api() -> ApiServer:
    api = ApiServer()
    api.slices = {"x": {"spec": {"driver": "gpu.nvidia.com"}}}
    return api


def life(root: Path, cards: Cards, api: ApiServer, *layouts: Layout) -> Life:
    return Life(root, cards, api, layouts or (ON_DEMAND,))


@pytest.fixture
async def node(tmp_path: Path, cards: Cards, api: ApiServer) -> Life:
    node = life(tmp_path, cards, api)
    await node.settle()
    return node


def claim(api: ApiServer, name: str, *devices: str) -> None:
    api.allocate(name, f"u-{name}", devices)


async def test_every_placement_is_published_and_the_whole_gpu(node: Life) -> None:
    published = node.published()
    assert {SMALL, LARGE, "gpu-0", "gpu-1-mig-7g141gb-0-0"} <= published
    assert len([name for name in published if name.startswith("gpu-0")]) == 26


async def test_an_instance_is_made_for_a_claim_and_destroyed_after_it(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    assert cards.places() == [("1g.18gb", 6)]
    assert node.held() == {"MIG-1": ["claim default/a"]}
    await node.unprepare("a")
    assert cards.places() == []
    assert node.held() == {}


async def test_claims_have_instances_beside_each_other(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    claim(api, "b", LARGE, "gpu-1-mig-1g18gb-19-0")
    await node.prepare("a")
    await node.prepare("b")
    assert cards.places() == [("1g.18gb", 6), ("4g.71gb", 0)]
    assert cards.places("GPU-1") == [("1g.18gb", 0)]
    await node.unprepare("a")
    assert cards.places() == [("4g.71gb", 0)]


async def test_a_place_whose_memory_another_claim_has_is_refused(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", LARGE)
    claim(api, "b", "gpu-0-mig-1g18gb-19-2")
    claim(api, "c", "gpu-0")
    await node.prepare("a")
    for name in ("b", "c"):
        with pytest.raises(ClaimError, match="claim default/a"):
            await node.prepare(name)
    assert cards.places() == [("4g.71gb", 0)]


async def test_a_gpu_is_whole_again_for_a_claim_that_wants_all_of_it(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    claim(api, "b", "gpu-0")
    await node.prepare("a")
    await node.unprepare("a")
    await node.prepare("b")
    mig = cards.gpus["GPU-0"].mig
    assert mig is not None
    assert not mig.enabled
    claim(api, "c", LARGE)
    with pytest.raises(ClaimError, match="claim default/b"):
        await node.prepare("c")


async def test_an_instance_that_cannot_be_made_leaves_nothing_and_holds_nothing(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    cards.gpus["GPU-0"] = replace(cards.gpus["GPU-0"], users=("process 9",))
    with pytest.raises(ClaimError, match="in use by process 9"):
        await node.prepare("a")
    assert (cards.places(), node.held(), node.driver.claims.entries) == ([], {}, {})


async def test_a_claim_keeps_its_instance_while_a_process_is_in_it(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    cards.users["GPU-0", "1g.18gb", 6] = "process 7"
    with pytest.raises(ClaimError, match="process 7"):
        await node.unprepare("a")
    assert node.held() == {"MIG-1": ["claim default/a"]}
    cards.users.clear()
    await node.unprepare("a")
    assert (cards.places(), node.held()) == ([], {})


async def test_while_nobody_cuts_a_claim_is_refused_and_one_that_ends_keeps_its_instance(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    claim(api, "b", LARGE)
    await node.prepare("a")
    node.absent = True
    with pytest.raises(ClaimError, match="does not answer"):
        await node.prepare("b")
    with pytest.raises(ClaimError, match="does not answer"):
        await node.unprepare("a")
    node.absent = False
    await node.prepare("b")
    await node.unprepare("a")
    assert cards.places() == [("4g.71gb", 0)]


async def test_what_others_made_is_neither_destroyed_nor_made_for_a_claim(
    tmp_path: Path, cards: Cards, api: ApiServer
) -> None:
    maker = life(tmp_path / "other", cards, api, Layout(mig={"3g.71gb": 1}))
    await maker.settle()
    (foreign,) = cards.places()
    node = life(tmp_path, cards, api, Layout(on_demand=True, select=Selector(index=(0,))))
    await node.settle()
    name = f"gpu-0-mig-3g71gb-9-{foreign[1]}"
    assert {"gpu-0-mig-7g141gb-0-0", "gpu-0"} & node.published() == set()
    claim(api, "a", name)
    await node.prepare("a")
    await node.unprepare("a")
    assert cards.places() == [foreign]


async def test_a_node_has_gpus_of_a_layout_and_gpus_that_claims_cut(
    tmp_path: Path, cards: Cards, api: ApiServer
) -> None:
    static = Layout(mig={"1g.18gb": 7}, select=Selector(index=(1,)))
    node = life(tmp_path, cards, api, static, ON_DEMAND)
    await node.settle()
    claim(api, "a", SMALL)
    claim(api, "b", "gpu-1-mig-1g18gb-19-0")
    await node.prepare("a")
    await node.prepare("b")
    await node.unprepare("b")
    assert (len(cards.places()), len(cards.places("GPU-1"))) == (1, 7)


async def test_an_ampere_gpu_without_mig_mode_is_refused_with_the_way_to_it(
    tmp_path: Path, api: ApiServer
) -> None:
    cards = Cards("A30")
    gpu = cards.gpus["GPU-0"]
    assert gpu.mig is not None
    cards.gpus["GPU-0"] = replace(gpu, mig=replace(gpu.mig, enabled=False, pending=False))
    node = life(tmp_path, cards, api)
    await node.settle()
    (standing,) = node.follower.table.standings()
    assert standing.state == "refused"
    assert "nvidia-smi --gpu-reset" in standing.reason


async def test_what_no_claim_has_any_more_goes_at_the_next_start(
    tmp_path: Path, node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    claim(api, "b", LARGE)
    await node.prepare("a")
    await node.prepare("b")
    entry = node.driver.claims.entries["u-a"]
    (tmp_path / "s" / "dra" / "gpu.nvidia.com" / f"{entry.ref.uid}.json").unlink()
    again = life(tmp_path, cards, api)
    await again.settle()
    assert cards.places() == [("4g.71gb", 0)]
    await again.prepare("b")
    assert again.held() == {"MIG-2": ["claim default/b"]}


async def test_a_gpu_that_a_pod_has_is_not_cut(node: Life, cards: Cards, api: ApiServer) -> None:
    node.ledger.reserve([(GPU, AdvertisedID("GPU-0"))])
    claim(api, "a", SMALL)
    with pytest.raises(ClaimError, match=r"in use as nvidia\.com/gpu"):
        await node.prepare("a")
    assert cards.places() == []
    assert "gpu-0-mig-1g18gb-19-6" not in node.published()


def kill_at(cards: Cards, number: int) -> None:
    """The privileged process ends at its point of this number."""
    left = iter(range(number, 0, -1))

    def pass_by() -> None:
        if next(left, None) == 1:
            raise Killed

    cards.before = pass_by


async def test_a_claim_that_ends_is_not_given_back_while_a_change_that_was_cut_off_is_not_over(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    kill_at(cards, 2)  # its instance is destroyed, and the journal does not say so yet
    with pytest.raises(ClaimError, match="the connection ended"):
        await node.unprepare("a")
    node.follower._again_at["GPU-0"] = (node.now_s + 30.0, 30.0)  # nobody finishes it for a while
    with pytest.raises(ClaimError, match="cut off is not over"):
        await node.unprepare("a")
    node.now_s += 31.0
    await node.unprepare("a")
    assert (cards.places(), node.held()) == ([], {})


async def test_a_claim_that_ends_is_given_back_by_what_the_privileged_process_finds(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    made_again = "MIG-9"  # under an id that the daemon has not seen
    cards.ids["GPU-0", "1g.18gb", 6] = made_again
    cards.users["GPU-0", "1g.18gb", 6] = "process 7"
    node.store.set_devices("nvidia", list(cards.devices()))
    with pytest.raises(ClaimError, match="process 7"):
        await node.unprepare("a")
    cards.users.clear()
    await node.unprepare("a")
    assert cards.places() == []


async def test_a_claim_that_ends_before_anybody_has_looked_keeps_its_instance_until_then(
    tmp_path: Path, node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    again = life(tmp_path, cards, api)
    with pytest.raises(ClaimError, match="not yet, a GPU of a layout"):
        await again.unprepare("a")
    await again.settle()
    await again.unprepare("a")
    assert (cards.places(), again.held()) == ([], {})


async def test_a_claim_that_ends_after_a_look_that_failed_keeps_its_instance(
    node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    node.follower.on_demand.see(Answer(error="the journal cannot be read"))
    with pytest.raises(ClaimError, match="not yet, a GPU of a layout"):
        await node.unprepare("a")
    await node.settle()
    await node.unprepare("a")
    assert cards.places() == []


async def test_a_claim_that_ends_where_its_gpu_is_cut_for_claims_no_more_leaves_its_instance(
    tmp_path: Path, node: Life, cards: Cards, api: ApiServer
) -> None:
    claim(api, "a", SMALL)
    await node.prepare("a")
    again = life(tmp_path, cards, api, Layout(on_demand=True, select=Selector(index=(1,))))
    await again.settle()
    await again.unprepare("a")
    assert (cards.places(), again.held()) == ([("1g.18gb", 6)], {})
