"""The commands of a fleet: they read what all of its nodes told, and run on any machine."""

import click

from deviceplugin.cli.fleet_advice import ADVICE
from deviceplugin.cli.fleet_budget import BUDGET
from deviceplugin.cli.fleet_cost import COST


@click.group("fleet", help="Cost of a fleet, budgets and advice, from its history.")
def fleet_commands() -> None:
    pass


for _command in (*COST, *BUDGET, *ADVICE):
    fleet_commands.add_command(_command)
