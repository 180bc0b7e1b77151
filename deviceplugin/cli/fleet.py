"""The commands of a fleet: they read what all of its nodes told, and run on any machine."""

import click

from deviceplugin.cli.fleet_plan import PLAN


@click.group("fleet", help="What a fleet needs, from the metrics of all its nodes.")
def fleet_commands() -> None:
    pass


for _command in PLAN:
    fleet_commands.add_command(_command)
