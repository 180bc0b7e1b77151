"""The commands of a fleet: they read what all of its nodes told, and run on any machine."""

import click

from deviceplugin.cli.fleet_advice import ADVICE
from deviceplugin.cli.fleet_budget import BUDGET
from deviceplugin.cli.fleet_cost import COST
from deviceplugin.cli.fleet_plan import PLAN


@click.group("fleet", help="What a fleet needs and costs, from the metrics of all its nodes.")
def fleet_commands() -> None:
    pass


for _command in (*COST, *BUDGET, *ADVICE, *PLAN):
    fleet_commands.add_command(_command)
