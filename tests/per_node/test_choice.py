"""Which of the fleet's configurations a node has: by its label, its name, or the default."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.config.config import Config
from deviceplugin.config.effective import effective
from deviceplugin.config.files import read_kept, read_state, unread_entries
from deviceplugin.config.last_good import FILE, keep_copy, load_or_last_good
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError
from deviceplugin.per_node.labels import LabelsError, labels_text, parse_labels, read_labels
from deviceplugin.vendors.nvidia.settings import NvidiaSection

FLEET: dict[str, Any] = {
    "log_level": "info",
    "nvidia": {"mig_strategy": "mixed", "pass_device_specs": True},
    "per_node": {
        "default": "plain",
        "nodes": [{"name": "edge-*", "use": "edge"}, {"name": "edge-1", "use": "plain"}],
        "configurations": {
            "plain": {},
            "edge": {"nvidia": {"mig_strategy": "none"}, "log_level": "warning"},
            "theirs": {"version": "v1", "flags": {"migStrategy": "single"}},
        },
    },
}


class Fleet:
    """A directory of configuration on a node."""

    def __init__(self, root: Path) -> None:
        self.folder, self.state = root / "etc", root / "state"
        self.folder.mkdir()
        self.state.mkdir(mode=0o700)
        self.write(FLEET)

    def write(self, document: dict[str, Any]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(document))

    def label(self, **labels: str) -> None:
        (self.folder / "node-labels").write_text(labels_text(labels))

    def flags(self, node: str) -> dict[str, str | None]:
        places = {"config": str(self.folder), "state_dir": str(self.state)}
        return {**places, "node_name": node}

    def load(self, node: str = "node-1") -> Config:
        return load(self.flags(node))[0]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def strategy(config: Config) -> str:
    section = config.sections["nvidia"]
    assert isinstance(section, NvidiaSection)
    return section.mig_strategy


@pytest.mark.parametrize(
    ("node", "found", "chosen"),
    [
        ("node-1", ("mixed", "info"), "plain, by default"),
        ("edge-1", ("none", "warning"), "edge, by the name edge-1, which is like edge-*"),
    ],
    ids=["default", "the first glob that is like it"],
)
def test_a_name_decides(fleet: Fleet, node: str, found: tuple[str, str], chosen: str) -> None:
    config = fleet.load(node)
    assert (strategy(config), config.log_level) == found
    assert config.chosen == chosen


def test_a_label_beats_a_name(fleet: Fleet) -> None:
    fleet.label(**{"deviceplugin.config": "plain", "other/label": "x"})
    config = fleet.load("edge-1")
    assert config.chosen == "plain, by the label deviceplugin.config"
    assert strategy(config) == "mixed"


def test_the_label_can_have_the_name_of_nvidias(fleet: Fleet) -> None:
    label = "nvidia.com/device-plugin.config"
    fleet.write(FLEET | {"per_node": FLEET["per_node"] | {"label": label}})
    fleet.label(**{label: "edge"})
    assert strategy(fleet.load()) == "none"


def test_what_a_configuration_does_not_say_is_that_of_all_nodes(fleet: Fleet) -> None:
    section = fleet.load("edge-1").sections["nvidia"]
    assert isinstance(section, NvidiaSection)
    assert section.pass_device_specs


def test_a_configuration_can_be_one_of_nvidias_plugin(fleet: Fleet) -> None:
    fleet.label(**{"deviceplugin.config": "theirs"})
    assert strategy(fleet.load()) == "single"


def test_a_label_that_names_none_is_one_error_with_all_names(fleet: Fleet) -> None:
    fleet.label(**{"deviceplugin.config": "egde"})
    with pytest.raises(ConfigError) as refused:
        fleet.load()
    (error,) = refused.value.errors
    assert str(error) == (
        "deviceplugin.config: 'egde' is not valid, expected one of per_node.configurations:"
        " edge, plain, theirs"
    )


def test_an_empty_or_absent_label_is_none(fleet: Fleet) -> None:
    fleet.label(**{"deviceplugin.config": ""})
    assert fleet.load().chosen == "plain, by default"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"default": "x"}, "per_node.default"),
        ({"nodes": [{"name": "a", "use": "x"}]}, "per_node.nodes"),
        ({"lable": "x"}, "per_node.lable"),
        ({"configurations": {"plain": {}, "edge": {"nvidia": {"mig": 1}}}}, "edge: nvidia.mig"),
        ({"configurations": {"plain": {}, "edge": {"log_level": "loud"}}}, "edge: log_level"),
        ({"configurations": {"plain": {}, "edge": {"nvidja": {}}}}, "edge: nvidja"),
        ({"configurations": {"plain": {}, "edge": {"per_node": {}}}}, "edge.per_node"),
        ({"configurations": {"plain": {}, "edge": {"node_name": "a"}}}, "edge.node_name"),
        ({"configurations": {"plain": {}, "edge": 5}}, "configurations"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_file_is_right_or_wrong_for_all_nodes(
    fleet: Fleet, change: dict[str, Any], told: str
) -> None:
    """A mistake for other nodes is found on the first that reads the file."""
    fleet.write(FLEET | {"per_node": FLEET["per_node"] | change})
    with pytest.raises(ConfigError, match=told):
        fleet.load()


def test_the_last_good_copy_is_that_of_this_node(fleet: Fleet) -> None:
    """A label that names none is no reason to forget what the node had."""
    config = fleet.load("edge-1")
    keep_copy(config)
    kept = read_kept(fleet.state / FILE).raw
    assert kept["nvidia"]["mig_strategy"] == "none"
    assert kept["per_node"]["configurations"] == {}
    fleet.label(**{"deviceplugin.config": "egde"})
    started = load_or_last_good(fleet.flags("edge-1"))
    assert "'egde' is not valid" in started.refused
    assert strategy(started.config) == "none"
    assert effective(started.config) == effective(config)


def test_labels_of_the_api_server_are_in_the_state_directory(fleet: Fleet) -> None:
    fleet.write(FLEET | {"per_node": FLEET["per_node"] | {"labels": "api"}})
    fleet.label(**{"deviceplugin.config": "theirs"})
    assert fleet.load().chosen == "plain, by default"
    (fleet.state / "node-labels").write_text('deviceplugin.config="edge"\n')
    assert strategy(fleet.load()) == "none"


def test_the_labels_are_a_part_of_what_is_watched_and_no_stray_file(fleet: Fleet) -> None:
    before = read_state(fleet.folder)
    fleet.label(**{"deviceplugin.config": "edge"})
    assert read_state(fleet.folder) != before
    assert unread_entries(fleet.folder) == ()


def test_one_file_without_a_directory_is_chosen_from_by_name(fleet: Fleet) -> None:
    flags = fleet.flags("edge-1") | {"config": str(fleet.folder / "config.yaml")}
    assert strategy(load(flags)[0]) == "none"


def test_without_the_section_labels_mean_nothing(fleet: Fleet) -> None:
    fleet.write({"log_level": "info"})
    fleet.label(**{"deviceplugin.config": "edge"})
    assert fleet.load().chosen == ""


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('a="b"\nc/d="e"\n', {"a": "b", "c/d": "e"}),
        ('a="with \\"quotes\\""\n', {"a": 'with "quotes"'}),
        ("a=b\n\nno label\n= \n", {}),
        ("a=5\n", {}),
        ("", {}),
    ],
    ids=["as the kubelet writes it", "escaped", "nonsense", "a number", "nothing"],
)
def test_a_line_is_a_label_or_nothing(text: str, labels: dict[str, str]) -> None:
    assert parse_labels(text) == labels


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    labels = {"b": "1", "a/b": 'x"y\\z'}
    assert parse_labels(labels_text(labels)) == labels
    assert read_labels(tmp_path / "none") == {}
    with pytest.raises(LabelsError):
        read_labels(tmp_path)
