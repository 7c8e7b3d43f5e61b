"""`provisioner machine discovered` and `machine forget`: the quarantine of machines that nobody registered."""

import click

from provisioner.cli.common import Context, output_option, pass_context, print_rows
from provisioner.errors import InvalidInput

_COLUMNS = ("mac", "last_seen", "times", "vendor", "product", "serial", "address", "conflict")
_EMPTY = {
    "off": "Nobody is in quarantine, since the setting `discovery` is off: unknown machines boot their disk.",
    "register": "Nobody is in quarantine: unknown machines become machines at once. See: provisioner machine list",
    "record": "Nobody is in quarantine. A machine gets here when it boots from the network in one of your subnets and\n"
    "its MAC address is not registered: power it on, and see `provisioner boot explain MAC`.",
}


@click.command()
@output_option
@pass_context
def discovered(context: Context, /, form: str) -> None:
    """List machines that booted here and that nobody registered, the latest seen first.

    They wait, switched on, and are not installed. Add one and start its build: it needs no power cycle.

    \b
    Examples:
      provisioner machine discovered
      provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11 --profile rocky9
      provisioner build start web01
    """
    discoveries = context.client.discoveries
    print_rows(discoveries.every(), form, _COLUMNS, _EMPTY[discoveries.setting or "record"])


@click.command()
@click.argument("mac", required=False)
@click.option("--all", "everyone", is_flag=True, help="Empty the quarantine.")
@pass_context
def forget(context: Context, /, mac: str | None, everyone: bool) -> None:
    """Take a machine out of quarantine. It comes back when it asks again.

    \b
    Examples:
      provisioner machine forget 52:54:00:12:34:56
      provisioner machine forget --all
    """
    if everyone == (mac is not None):
        raise InvalidInput(
            "name one machine, or all", where="MAC", hint="`machine forget MAC` or `machine forget --all`"
        )
    if mac is None:
        click.echo(f"{context.client.discoveries.forget_all()} forgotten")
    else:
        context.client.discoveries.forget(mac)
        click.echo(f"{mac} forgotten")
