"""The CronJobs that are shipped call commands that there are, with prices that are read."""

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from deviceplugin.cli import cli
from deviceplugin.cli.fleet_cost import read_costs

FLEET = Path(__file__).parents[2] / "deploy/fleet"
JOBS = sorted(FLEET.glob("cronjob*.yaml"))


def spec_of(path: Path) -> Any:  # YAML
    return yaml.safe_load(path.read_text())["spec"]["jobTemplate"]["spec"]


def test_a_report_a_plan_and_budgets_have_a_job() -> None:
    commands = {tuple(container_of(path)["args"][:2]) for path in JOBS}
    assert commands == {("fleet", "report"), ("fleet", "plan"), ("fleet", "budget")}


def container_of(path: Path) -> Any:  # YAML
    (container,) = spec_of(path)["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_jobs_arguments_are_those_of_its_command(path: Path) -> None:
    group, name, *words = container_of(path)["args"]
    fleet = cli.commands[group]
    assert isinstance(fleet, click.Group)
    fleet.commands[name].make_context(name, words)


def test_the_job_of_budgets_tells_at_once_and_reads_prices_that_are_there(tmp_path: Path) -> None:
    (path,) = [path for path in JOBS if "budget" in path.name]
    assert spec_of(path)["backoffLimit"] == 0
    prices = yaml.safe_load((FLEET / "costs.yaml").read_text())
    volume = spec_of(path)["template"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == prices["metadata"]["name"]
    (mounted,) = container_of(path)["volumeMounts"]
    file = Path(container_of(path)["args"][-1])
    assert (str(file.parent), file.name in prices["data"]) == (mounted["mountPath"], True)
    (tmp_path / file.name).write_text(prices["data"][file.name])
    assert read_costs(str(tmp_path / file.name)).budgets
