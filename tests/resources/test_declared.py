"""What isolates and who holds what, told in metrics, labels and discover."""

from deviceplugin.cli.tables import report_text
from deviceplugin.labels.labels import isolation_labels
from deviceplugin.metrics.registry import Registry
from deviceplugin.model import AdvertisedID, ResourceName
from deviceplugin.resources.ledger import Holder, Holding, Ledger, PodResourcesReply
from deviceplugin.resources.metrics import SharingCollector
from deviceplugin.resources.report import report
from tests.resources.builders import gpu, inventory, sharing

RULES = sharing({"offers": ["whole", {"memory": {}}]})
NODE = inventory(gpu(0, 2))


def test_metrics_tell_the_isolation_the_form_and_the_holder() -> None:
    ledger = Ledger(lambda: 1.0)
    holder = Holder(namespace="n", pod="p", container="c")
    held = tuple(
        Holding(
            resource=ResourceName("nvidia.com/gpu-memory"),
            id=AdvertisedID(f"{gpu(0).id}-m{i}"),
            numa_node=0,
            holder=holder,
        )
        for i in range(2)
    )
    ledger.look_up(RULES.ids(NODE))
    ledger.observe(PodResourcesReply(pods=frozenset({("n", "p")}), holdings=held), 1.0)
    registry = Registry()
    registry.register(SharingCollector(lambda: RULES.plan(NODE, ledger.usage.value), ledger.held))
    text = registry.text()
    assert 'isolation{isolation="hardware",resource="nvidia.com/gpu"} 1.0' in text
    assert 'isolation{isolation="none",resource="nvidia.com/gpu-memory"} 1.0' in text
    assert f'in_use_as{{device="{gpu(0).id}",resource="nvidia.com/gpu-memory"}} 1.0' in text
    assert (
        f'deviceplugin_container_devices{{container="c",device="{gpu(0).id}",namespace="n",pod="p",'
        'resource="nvidia.com/gpu-memory"} 2.0'
    ) in text


def test_labels_tell_the_isolation_of_each_resource() -> None:
    assert isolation_labels(RULES.plan(NODE).resources) == {
        "nvidia.com/gpu.isolation": "hardware",
        "nvidia.com/gpu-memory.isolation": "none",
    }


def test_discover_tells_the_isolation_of_each_resource() -> None:
    text = report_text(report("node", NODE, RULES.plan(NODE)))
    assert "nvidia.com/gpu         1         1            hardware" in text
    assert "nvidia.com/gpu-memory  2         2            none" in text
