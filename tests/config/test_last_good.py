"""The last good configuration outlives a restart."""

import json
from pathlib import Path

import pytest

from deviceplugin.config.effective import effective
from deviceplugin.config.files import MAX_BYTES
from deviceplugin.config.last_good import FILE, Started, keep_copy, load_or_last_good
from deviceplugin.errors import ConfigError
from tests.rig import GPU, Rig, run_command

GOOD = "log_level: debug\nrules: [{offers: [{replicas: 3, name: a.b/c}]}]\nmig: {version: '7'}\n"


class Place:
    """A file of configuration and a state directory."""

    def __init__(self, root: Path) -> None:
        self.file, self.state = root / "config.yaml", root / "state"

    def start(self, text: str | None, **flags: str) -> Started:
        if text is None:
            self.file.unlink(missing_ok=True)
        else:
            self.file.write_text(text)
        given = {"config": str(self.file), "state_dir": str(self.state)}
        return load_or_last_good(given | flags)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    started = place.start(GOOD)
    assert (started.refused, started.good_at) == ("", None)
    keep_copy(started.config)
    return place


@pytest.mark.parametrize("bad", ["log_level: loud", "a: [", None, "nonsense: 1"])
def test_a_bad_file_at_the_start_is_replaced_by_the_last_good_one(
    place: Place, bad: str | None
) -> None:
    good, started = place.start(GOOD), place.start(bad)
    assert effective(started.config) == effective(good.config)
    assert str(place.file) in started.refused or started.refused.startswith(("log_level", "nonse"))
    assert started.instead.endswith(f"kept in {place.state / FILE}")
    assert started.good_at == (place.state / FILE).stat().st_mtime
    assert started.config.source is not None
    assert started.config.source.path == place.file  # it is watched, and not the copy
    assert started.config.notes == ()


def test_flags_win_over_the_copy_too(place: Place) -> None:
    assert place.start("a: [", log_level="error").config.log_level == "error"


@pytest.mark.parametrize(
    ("name", "value"), [("log_level", "loud"), ("vendors", "voodoo"), ("metrics_address", "x")]
)
def test_a_bad_flag_is_an_error_all_the_same(place: Place, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=value):
        place.start(GOOD, **{name: value})


def test_without_a_copy_a_bad_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loud"):
        Place(tmp_path).start("log_level: loud")


@pytest.mark.parametrize("content", ["", "{", '{"nonsense": 1}', "\0"])
def test_a_copy_that_cannot_be_used_is_no_help(place: Place, content: str) -> None:
    (place.state / FILE).write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        place.start("a: [")


def test_a_copy_is_for_nobody_else_and_is_the_whole_configuration(place: Place) -> None:
    path = place.state / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == json.loads(
        json.dumps(effective(place.start(GOOD).config))
    )


def test_a_copy_that_cannot_be_written_costs_nothing(place: Place) -> None:
    place.state.rename(place.state.with_name("gone"))
    place.state.write_text("a file")
    keep_copy(place.start(GOOD).config)


async def test_a_daemon_that_starts_with_a_bad_file_serves_by_the_last_good_one(
    rig: Rig, nvml: object
) -> None:
    path = rig.config("rules: [{offers: [{replicas: 2}]}]\nmig: {enabled: false}")
    await rig.stub.start()
    first = rig.start("--config", str(path))
    await rig.capacity({GPU: 12})
    await first.until((rig.state_dir / FILE).exists, lambda: "no copy")
    assert await first.stop() == 0
    path.write_text("rules: 7")
    second = rig.start("--config", str(path))
    refused = await second.wait_event("configuration_refused")
    assert refused["level"] == "error"
    assert refused["reason"].startswith("rules: 7 is not valid, expected a list")
    assert "the last good one of" in refused["instead"]
    await rig.capacity({GPU: 12})
    metrics = await second.answers("/metrics")
    assert "deviceplugin_config_last_reload_successful 0" in metrics
    # Operators reach the daemon by its own flags although the files are bad.
    state = ("--state-dir", str(rig.state_dir), "--config", str(path))
    assert "GPU-" in run_command("health", *state).stdout
    path.write_text("rules: [{offers: [{replicas: 4}]}]\nmig: {enabled: false}")
    await rig.capacity({GPU: 24})
    assert "deviceplugin_config_last_reload_successful 1" in await second.answers("/metrics")
    assert len(second.events("configuration_refused")) == 1


def test_a_copy_spells_everything_out_and_may_be_longer_than_files(place: Place) -> None:
    rules = "".join(f"- offers: [{{replicas: 2, name: a.b/c{n}}}]\n" for n in range(400))
    keep_copy(place.start(f"rules:\n{rules}").config)
    assert (place.state / FILE).stat().st_size > MAX_BYTES
    started = place.start("a: [")
    assert started.refused
    assert len(json.loads((place.state / FILE).read_text())["rules"]) == 400
